package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
)

func manCLI(e *env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "man",
		Short: "Write the manual pages",
		Long: `Writes a manual page for pgmedic and for each of its commands into a folder, which
is made if it is not there. Packages of pgmedic have these pages. After another
installation put them where man looks:

  pgmedic man --output /usr/local/share/man/man1
  man pgmedic-restore`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			command := &manCommand{env: e, root: cmd.Root(), output: output}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "folder to write to (required)")
	return cmd
}

// manCommand writes the manual pages.
type manCommand struct {
	*env
	root   *cobra.Command
	output string
}

func (cmd *manCommand) run(context.Context) error {
	if cmd.output == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "name a folder with --output, such as /usr/local/share/man/man1", "where do the manual pages go?")
	}
	folder := cmd.output
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(cmd.dir, folder)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the folder for the manual pages: %w", err)
	}
	pages := manualPages(cmd.root, cmd.version)
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(page), 0o644); err != nil {
			return fmt.Errorf("write a manual page: %w", err)
		}
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"folder": folder, "pages": len(pages)})
	}
	if !cmd.global.quiet {
		cmd.printf("%d manual pages in %s\n", len(pages), folder)
	}
	return nil
}

// manualPages are the manual pages by their files' names. The same version has the same
// bytes, whenever and wherever they are made.
func manualPages(root *cobra.Command, version string) map[string]string {
	pages := map[string]string{}
	for _, cmd := range commandsBelow(root) {
		if cmd == root || cmd.IsAvailableCommand() {
			pages[pageName(cmd)+".1"] = manualPage(cmd, version)
		}
	}
	return pages
}

// pageName is what man calls the page of a command: pgmedic-wal-stream.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manualPage is what --help says of a command, line by line, as roff with the macros of
// man(7).
func manualPage(cmd *cobra.Command, version string) string {
	var page strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&page, format+"\n", args...) }
	line(`.TH "%s" "1" "" "pgmedic %s" "pgmedic"`, strings.ToUpper(pageName(cmd)), roff(version))
	line(".SH NAME\n%s \\- %s", roff(pageName(cmd)), roff(cmd.Short))
	line(".SH SYNOPSIS\n.B %s", roff(cmd.UseLine()))
	line(".SH DESCRIPTION\n%s", paragraphs(cmp.Or(cmd.Long, cmd.Short+".")))
	if cmd.Example != "" {
		line(".SH EXAMPLES\n.nf\n%s\n.fi", roff(strings.TrimRight(cmd.Example, "\n")))
	}
	section := func(title string, flags *pflag.FlagSet) {
		if !flags.HasAvailableFlags() {
			return
		}
		line(".SH %s", title)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			value, usage := pflag.UnquoteUsage(f)
			name := `\fB` + roff("--"+f.Name) + `\fR`
			if f.Shorthand != "" {
				name = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + name
			}
			if value != "" {
				name += ` \fI` + roff(value) + `\fR`
			}
			line(".TP\n%s\n%s", name, roff(usage))
		})
	}
	cmd.InitDefaultHelpFlag()
	section("OPTIONS", cmd.NonInheritedFlags())
	section("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	var related []string
	if parent := cmd.Parent(); parent != nil {
		related = append(related, pageName(parent))
	}
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			related = append(related, pageName(below))
		}
	}
	for i, name := range related {
		related[i] = `\fB` + roff(name) + `\fR(1)`
	}
	if len(related) > 0 {
		line(".SH SEE ALSO\n%s", strings.Join(related, ",\n"))
	}
	return page.String()
}

// paragraphs is a text of several paragraphs, which roff breaks into lines as wide as the
// terminal. A line that ends a sentence ends a paragraph, and lines that are indented stay
// as they are.
func paragraphs(text string) string {
	var all strings.Builder
	indented := false
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		line = strings.TrimSuffix(line, "\n")
		if now := strings.HasPrefix(line, " "); now != indented && line != "" {
			indented = now
			all.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[now])
		}
		switch {
		case line == "":
			all.WriteString(".PP\n")
		case !indented && (strings.HasSuffix(line, ".") || strings.HasSuffix(line, ":")):
			all.WriteString(roff(line) + "\n.br\n")
		default:
			all.WriteString(roff(line) + "\n")
		}
	}
	if indented {
		all.WriteString(".fi\n")
	}
	return strings.TrimSuffix(all.String(), "\n")
}

// roff is a text in which roff finds nothing to obey, in ASCII, whatever encoding it takes
// pages to have.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	var out strings.Builder
	for i, r := range s {
		switch {
		case r > unicode.MaxASCII:
			fmt.Fprintf(&out, `\[u%04X]`, r)
			continue
		case r == '.' && (i == 0 || s[i-1] == '\n'):
			out.WriteString(`\&`)
		}
		out.WriteRune(r)
	}
	return out.String()
}
