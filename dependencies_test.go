package pgmedic_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDependencies: docs/dependencies.md has each direct dependency of the binary with
// its version, and none that is not used.
func TestDependencies(t *testing.T) {
	page, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	inGo := map[string]string{}
	require := regexp.MustCompile(`(?m)^\t(\S+) (v\S+)$`)
	for _, file := range []string{"go.mod", "pool/go.mod", "pool/poolprom/go.mod", "pool/pooltest/go.mod", "test/pool/go.mod", "examples/pool/go.mod"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range require.FindAllStringSubmatch(string(text), -1) {
			inGo[m[1]] = m[2]
		}
	}
	ours := func(module string) bool { return strings.HasPrefix(module, "github.com/pgmedic/") }
	for module, version := range inGo {
		short := "…" + strings.TrimPrefix(module, "github.com/aws/aws-sdk-go-v2")
		listed := strings.Contains(string(page), module) || strings.Contains(string(page), short)
		if !ours(module) && !listed {
			t.Errorf("a go.mod has %s %s, and docs/dependencies.md does not", module, version)
		}
	}
	row := regexp.MustCompile(`(?m)^\| ((?:[a-z0-9-]+\.)+[a-z]+(?:/[^ ,|]+)?)(?:, [^|]*)? \| (v[^ ,|]+)`)
	rows := row.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 15 {
		t.Fatalf("%d rows were found", len(rows))
	}
	for _, m := range rows {
		if version, used := inGo[m[1]]; !used || version != m[2] {
			t.Errorf("docs/dependencies.md has %s %s, and the modules %q", m[1], m[2], version)
		}
	}
}
