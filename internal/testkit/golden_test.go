package testkit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestGolden: any difference is found and named by its line, and -update writes the file.
func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "of", "a test", "x.golden")
	// fails returns how a test fails that compares got, or nothing.
	fails := func(got string, update bool) string {
		f, ended := &failing{TB: t}, make(chan bool)
		go func() {
			defer close(ended)
			testkit.Golden(f, path, got, update)
		}()
		<-ended
		return f.text
	}
	if text := fails("a\n", false); !strings.Contains(text, "read a golden file") {
		t.Errorf("without the file: %q", text)
	}
	const want = "a\nb\n\nc\n"
	if text := fails(want, true); text != "" {
		t.Errorf("-update: %q", text)
	}
	if written, err := os.ReadFile(path); err != nil || string(written) != want {
		t.Errorf("-update wrote %q: %v", written, err)
	}
	if text := fails(want, false); text != "" {
		t.Errorf("the same text: %q", text)
	}
	for got, line := range map[string]string{
		"": "line 1;", "x\nb\n\nc\n": "line 1;", "a\nb\nc\n": "line 3;", "a\nb\n\nc": "line 4;", "a\nb\n\nc\n\n": "line 5;", "a\nb\n\nc\nd": "line 5;", "a\r\nb\n\nc\n": "line 1;",
	} {
		if text := fails(got, false); !strings.Contains(text, line) || !strings.Contains(text, path) {
			t.Errorf("%q fails with %q, want %s", got, text, line)
		}
	}
}
