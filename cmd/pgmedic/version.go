package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// versionCommand prints the version.
type versionCommand struct{ *env }

func versionCLI(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit, the version of Go and the platform",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			command := &versionCommand{env: e}
			return command.run(cmd.Context())
		},
	}
}

func (cmd *versionCommand) run(context.Context) error {
	if cmd.global.json {
		return cmd.printJSON(buildOf(cmd.env))
	}
	cmd.printf("%s", buildOf(cmd.env))
	return nil
}

// buildFacts say what this program is.
type buildFacts struct {
	Version string `json:"version"`
	// Commit is what it was built from; empty where that is not known, which is so where
	// it was built outside of a checkout. Modified says that the checkout had changes.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildOf reads what the linker and the compiler have written into the program.
func buildOf(e *env) buildFacts {
	facts := buildFacts{Version: e.version, Commit: e.commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok || facts.Commit != "" {
		return facts
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			facts.Commit = s.Value
		case "vcs.modified":
			facts.Modified = s.Value == "true"
		}
	}
	return facts
}

// String is what is printed: the version alone on the first line.
func (b buildFacts) String() string {
	commit := "commit not known"
	if b.Commit != "" {
		commit = "commit " + b.Commit[:min(len(b.Commit), 12)]
	}
	if b.Modified {
		commit += ", with changes"
	}
	return fmt.Sprintf("pgmedic %s\n%s\n", b.Version, strings.Join([]string{commit, b.Go, b.Platform}, ", "))
}
