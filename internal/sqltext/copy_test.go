package sqltext_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

//go:generate cp lexer.go normalise.go ../../pool/internal/sqltext/

// TestPoolCopy holds the pool's copy to this package, byte by byte.
func TestPoolCopy(t *testing.T) {
	copies, err := filepath.Glob("../../pool/internal/sqltext/*.go")
	if err != nil || len(copies) == 0 {
		t.Fatalf("the pool's copy is not there: %v", err)
	}
	for _, name := range copies {
		copied, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source, err := os.ReadFile(filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(copied, source) {
			t.Errorf("%s differs: run go generate ./internal/sqltext", name)
		}
	}
}
