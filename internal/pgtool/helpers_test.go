package pgtool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	if script := os.Getenv(helperVariable); script != "" {
		helper(script)
		return
	}
	os.Exit(scratchtest.Main(m, scratch.Options{TCP: true}, func(s *scratch.Server) { server = s }))
}

func parse(t *testing.T, dsn string) postgres.Target {
	t.Helper()
	target, err := postgres.ParseTarget(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// tool finds a real client program that works with the server.
func tool(t *testing.T, name string) pgtool.Tool {
	t.Helper()
	found, err := pgtool.Finder{Dirs: []string{server.BinDir()}}.Find(t.Context(), name, server.Major())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// fake makes a client program of a shell script.
func fake(t *testing.T, name, script string) pgtool.Tool {
	t.Helper()
	dir := t.TempDir()
	return pgtool.Tool{Name: name, Path: write(t, dir, name, script), Version: "15.1", Major: 15}
}

func write(t *testing.T, dir, name, script string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// version is the script of a program that prints its version.
func version(name, v string) string {
	return fmt.Sprintf("echo '%s (PostgreSQL) %s'", name, v)
}
