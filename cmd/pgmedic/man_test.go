package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/pflag"
)

// TestManualPages: each command has a page, which has all that --help says, word by word,
// as man shows it; and the same version has the same bytes.
func TestManualPages(t *testing.T) {
	root := rootCLI(helpEnv())
	root.InitDefaultHelpCmd()
	pages := manualPages(root, "v1.2.3-dirty")
	again := manualPages(rootCLI(helpEnv()), "v1.2.3-dirty")
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("NOT checked: how groff shows them, which is not installed here")
	}
	if len(pages) < 50 {
		t.Errorf("%d pages", len(pages))
	}
	for _, cmd := range commandsBelow(root) {
		if cmd != root && !cmd.IsAvailableCommand() {
			continue
		}
		name := pageName(cmd) + ".1"
		page := pages[name]
		if page == "" {
			t.Errorf("no page %s", name)
			continue
		}
		if cmd.Name() != "help" && cmd != root && page != again[name] { // the root has no help command the second time
			t.Errorf("%s is another one the second time", name)
		}
		want := []string{cmd.Short, cmd.Long, cmd.UseLine(), "v1.2.3-dirty"}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				value, usage := pflag.UnquoteUsage(f)
				want = append(want, "--"+f.Name, value, usage)
			}
		})
		if strings.ContainsFunc(page, func(r rune) bool { return r > unicode.MaxASCII }) {
			t.Errorf("%s is not ASCII", name)
		}
		shown := unroff(page)
		if groff != "" {
			show := exec.Command(groff, "-Tutf8", "-man", "-ww", "-P", "-c", "-rHY=0", "-dAD=l", "-rLL=300n")
			show.Stdin = strings.NewReader(page)
			var out, complaints bytes.Buffer
			show.Stdout, show.Stderr = &out, &complaints
			if err := show.Run(); err != nil || complaints.Len() > 0 {
				t.Errorf("groff, of %s: %v %s", name, err, complaints.String())
			}
			shown = out.String()
		}
		flat := strings.Join(strings.Fields(withoutBackspaces(shown)), " ")
		for _, text := range want {
			for line := range strings.Lines(text) {
				if line = strings.Join(strings.Fields(line), " "); !strings.Contains(flat, line) {
					t.Errorf("%s lacks %q", name, line)
				}
			}
		}
	}
}

// unroff undoes what roff does to a text, and drops the requests.
func unroff(page string) string {
	page = regexp.MustCompile(`\\\[u([0-9A-F]+)\]`).ReplaceAllStringFunc(page, func(s string) string {
		code, err := strconv.ParseUint(s[3:len(s)-1], 16, 32)
		if err != nil {
			return s
		}
		return string(rune(code))
	})
	s := strings.NewReplacer(`\fB`, "", `\fI`, "", `\fR`, "", `\-`, "-", `\(ga`, "`", `\(aq`, "'", `\(ha`, "^", `\(ti`, "~", `\&`, "", `\e`, `\`).Replace(page)
	return strings.NewReplacer("\n.B ", "\n").Replace(s)
}

// withoutBackspaces drops how terminals of old are made to print bold letters.
func withoutBackspaces(s string) string {
	var kept []rune
	for _, r := range s {
		if r == '\b' && len(kept) > 0 {
			kept = kept[:len(kept)-1]
			continue
		}
		kept = append(kept, r)
	}
	return string(kept)
}

// TestManWrites: the folder is made, is named by the flag alone, and what can't be written
// is an error.
func TestManWrites(t *testing.T) {
	dir := t.TempDir()
	command := func(args ...string) int {
		e := helpEnv()
		e.dir, e.stdin, e.now = dir, strings.NewReader(""), time.Now
		return run(t.Context(), e, args)
	}
	if code := command("man"); code != 2 {
		t.Errorf("without a folder: exit code %d", code)
	}
	if code := command("man", "--output", "share/man1"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	written, err := filepath.Glob(filepath.Join(dir, "share/man1/pgmedic*.1"))
	if err != nil || len(written) < 50 {
		t.Errorf("written: %d, %v", len(written), err)
	}
	if code := command("man", "--output", "share/man1/pgmedic.1"); code != 1 {
		t.Errorf("a file in the folder's place: exit code %d", code)
	}
}
