package test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// driving is what drives a terminal, or turns a text's direction.
const driving = "\x1b]0;PWN\a\x1b[31m\u009b31m\u202eX"

// textPaths are the places of all texts of a JSON value, one of each kind.
func textPaths(v any, path []string, seen map[string]bool) (paths [][]string) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			paths = append(paths, textPaths(below, append(slices.Clone(path), key), seen)...)
		}
	case []any:
		if len(v) > 0 {
			paths = textPaths(v[0], append(slices.Clone(path), "0"), seen)
		}
	case string:
		if kind := strings.Join(path, "."); !seen[kind] {
			seen[kind] = true
			paths = [][]string{path}
		}
	}
	return paths
}

// appendAt appends to the text at a path, which is there.
func appendAt(v any, path []string, text string) any {
	switch v := v.(type) {
	case map[string]any:
		v[path[0]] = appendAt(v[path[0]], path[1:], text)
		return v
	case []any:
		v[0] = appendAt(v[0], path[1:], text)
		return v
	case string:
		return v + text
	}
	return v
}

// TestEscapesInManifest puts escapes into every text of a manifest, and of a
// receipt, and looks at what commands print.
func TestEscapesInManifest(t *testing.T) {
	b := newBench(t, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
	id := strings.TrimSpace(b.ok("backup", "-q", "--label", "k=v"))
	b.ok("verify", id)
	folder := b.folder(id)
	manifest := filepath.Join(folder, "manifest.json")
	honest := readFile(t, manifest)
	others := [][]string{
		{"verify", id}, {"restore", id, "--into", b.database + "_x", "--dry-run"}, {"keys", "list", id},
		{"copy", id, "--to", filepath.Join(b.dir, "copies")}, {"list", "--json"},
	}
	look := func(what string) {
		t.Helper()
		commands := [][]string{{"list"}, {"show", id, "--all-tables"}}
		commands = append(commands, testkit.Pick(what, testkit.Amount(0, 1, len(others)), others)...)
		for _, args := range commands {
			r := b.run(args...)
			for _, text := range []string{r.stdout, r.stderr} {
				if i := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && c != '\t' && !unicode.IsPrint(c) }); i >= 0 {
					t.Errorf("%s: %s prints %q", what, args[0], text[i:min(i+30, len(text))])
				}
			}
		}
	}
	parse := func(data []byte) (v any) {
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	paths := textPaths(parse(honest), nil, map[string]bool{})
	if len(paths) < 20 {
		t.Fatalf("the manifest has but %d texts", len(paths))
	}
	for _, path := range paths {
		data, err := json.Marshal(appendAt(parse(honest), path, driving))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		put(t, manifest, data)
		put(t, manifest+".sha256", fmt.Appendf(nil, "%s  manifest.json\n", hex.EncodeToString(sum[:])))
		look(strings.Join(path, "."))
	}
	sum := sha256.Sum256(honest)
	put(t, manifest, honest)
	put(t, manifest+".sha256", fmt.Appendf(nil, "%s  manifest.json\n", hex.EncodeToString(sum[:])))
	receipts, err := filepath.Glob(filepath.Join(folder, "receipts", "*.json"))
	if err != nil || len(receipts) == 0 {
		t.Fatalf("there are no receipts: %v", err)
	}
	receipt := readFile(t, receipts[0])
	for _, path := range textPaths(parse(receipt), nil, map[string]bool{}) {
		data, err := json.Marshal(appendAt(parse(receipt), path, driving))
		if err != nil {
			t.Fatal(err)
		}
		put(t, receipts[0], data)
		look("receipt " + strings.Join(path, "."))
	}
}
