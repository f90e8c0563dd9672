package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// uncomment takes the # away from every setting that is shown as a default.
func uncomment(example []byte) string {
	return regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`).ReplaceAllString(string(example), "$1$2")
}

func TestExamples(t *testing.T) {
	for _, preset := range config.Presets() {
		t.Run(preset, func(t *testing.T) {
			example, err := config.Example(preset)
			if err != nil {
				t.Fatal(err)
			}
			testkit.Golden(t, filepath.Join("testdata", preset+".yaml"), string(example), *update)

			dir := t.TempDir()
			defaults := load(t, config.Options{Dir: dir})
			written := load(t, config.Options{Dir: dir, File: write(t, dir, "written.yaml", string(example))})
			all := load(t, config.Options{Dir: dir, File: write(t, dir, "all.yaml", uncomment(example))})
			if got := written.Backup.Labels["env"]; got != preset {
				t.Errorf("label env is %q", got)
			}
			for _, d := range defaults.Effective() {
				line := regexp.MustCompile(`(?m)^ *#?` + d.Key[strings.LastIndex(d.Key, ".")+1:] + `:`)
				if !line.Match(example) {
					t.Errorf("%s is not in it", d.Key)
				}
				w, a := value(t, written, d.Key), value(t, all, d.Key)
				if w.Value != a.Value {
					t.Errorf("%s is %q, and %q with every line uncommented", d.Key, w.Value, a.Value)
				}
				if set := w.Origin.Given(); set == (w.Value == d.Value) {
					t.Errorf("%s is %q, set by the file %v; the default is %q", d.Key, w.Value, set, d.Value)
				}
				if d.Value != "" && !a.Origin.Given() {
					t.Errorf("%s is not read from the uncommented file", d.Key)
				}
			}
		})
	}
}

// TestDocs holds docs/configuration.md to the settings that there are. With
// -update it writes the table anew.
func TestDocs(t *testing.T) {
	const path, begin, end = "../../docs/configuration.md", "<!-- settings: go test ./internal/config -update -->\n", "<!-- end -->\n"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table between %q and %q", path, begin, end)
	}
	page := before + begin + table() + end + after
	testkit.Golden(t, path, page, *update)
	for _, name := range config.Known() {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s does not mention %s", path, name)
		}
	}
}

// table is the settings in Markdown.
func table() string {
	var b strings.Builder
	b.WriteString("| key | environment | default | what it is |\n|---|---|---|---|\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, k := range config.Keys() {
		secret := ""
		if k.Secret {
			secret = " *Secret.*"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s%s |\n", code(k.Key), code(k.Env), code(k.Default), k.Doc, secret)
	}
	return b.String()
}

var update = flag.Bool("update", false, "write the golden files and the table of settings anew")
