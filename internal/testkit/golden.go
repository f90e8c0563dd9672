package testkit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Golden compares a text with the file that says what it should be, and fails the test if
// they differ. With update it writes the file instead, and the folder that it is in: read the
// difference before you commit it.
func Golden(tb testing.TB, path, got string, update bool) {
	tb.Helper()
	if update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatalf("make the folder of a golden file: %v", err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			tb.Fatalf("write a golden file: %v", err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("read a golden file: %v", err)
	}
	want := string(text)
	if got == want {
		return
	}
	number := 1
	for {
		gotLine, gotRest, gotMore := strings.Cut(got, "\n")
		wantLine, wantRest, wantMore := strings.Cut(want, "\n")
		if gotLine != wantLine || gotMore != wantMore {
			tb.Errorf("it differs from %s in line %d; run the test with -update and read what changes\n got %q\nwant %q", path, number, gotLine, wantLine)
			return
		}
		got, want, number = gotRest, wantRest, number+1
	}
}
