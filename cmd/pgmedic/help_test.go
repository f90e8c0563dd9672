package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic/internal/config"
)

// ownDefaults are the flags whose default depends on something, and is told in words.
func ownDefaults() []string {
	return []string{"jobs", "compression", "method", "log-level", "log-file"}
}

// TestDefaultsInHelp holds what each flag of a setting says of its default against the
// default.
func TestDefaultsInHelp(t *testing.T) {
	told := regexp.MustCompile(`\(default: ([^)]*)\)$`)
	seen := 0
	for _, cmd := range commandsBelow(rootCLI(helpEnv())) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			keys := f.Annotations[settingKey]
			if len(keys) != 1 || slices.Contains(ownDefaults(), f.Name) {
				return
			}
			i := slices.IndexFunc(config.Keys(), func(k config.Key) bool { return k.Key == keys[0] })
			if i < 0 {
				t.Errorf("%s --%s sets %s, which is not a setting", cmd.CommandPath(), f.Name, keys[0])
				return
			}
			want, got := config.Keys()[i].Default, ""
			if m := told.FindStringSubmatch(f.Usage); m != nil {
				got = m[1]
			}
			if want == "0" || want == "0s" || want == "false" {
				want = ""
			}
			if got != want {
				t.Errorf("%s --%s says that its default is %q, and it is %q", cmd.CommandPath(), f.Name, got, want)
			}
			seen++
		})
	}
	if seen < 20 {
		t.Errorf("only %d flags were held against their settings", seen)
	}
}

// TestValuesInHelp holds the values that a shell offers against those that help names.
func TestValuesInHelp(t *testing.T) {
	offered := fixedValues()
	for _, cmd := range commandsBelow(rootCLI(helpEnv())) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			name := strings.TrimPrefix(cmd.CommandPath(), "pgmedic ") + " --" + f.Name
			for _, v := range offered[name] {
				if name != "report --section" && !strings.Contains(f.Usage, v) {
					t.Errorf("%s offers %q, which its help does not name: %s", name, v, f.Usage)
				}
			}
			delete(offered, name)
		})
	}
	for name := range offered {
		t.Errorf("there is no %s", name)
	}
}

func helpEnv() *env {
	var out bytes.Buffer
	return &env{stdout: &out, stderr: &out, stdoutWidth: func() int { return 0 }, stderrWidth: func() int { return 0 }}
}
