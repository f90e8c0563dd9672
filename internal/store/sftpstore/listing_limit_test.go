package sftpstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store/sftpstore"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
)

// TestEndlessFolder: a server that lists without end does not fill the memory.
func TestEndlessFolder(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{Endless: true})
	s, _ := open(t, server, func(o *sftpstore.Options) { o.MustExist = true })
	listed := 0
	for _, err := range s.List(t.Context(), "") {
		if err == nil {
			listed++
			continue
		}
		if pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), "64 MiB of names") || pgmedic.HintOf(err) == "" {
			t.Errorf("%v", err)
		}
		if server.Opened() != 1 {
			t.Errorf("%d connections were opened for the same answer", server.Opened())
		}
		return
	}
	t.Errorf("the folder ended, with %d objects", listed)
}

// TestFilesAreClosed: a file of which the server does not say how long it is is closed.
func TestFilesAreClosed(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{Denied: "fstat"})
	s, dir := open(t, server)
	if err := os.WriteFile(filepath.Join(dir, "object"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := server.OpenFiles()
	for range 3 {
		if r, err := s.Open(t.Context(), "object", 0, -1); err == nil {
			r.Close()
			t.Fatal("it was opened")
		}
	}
	if left := server.OpenFiles() - before; left != 0 {
		t.Errorf("%d files are left open", left)
	}
}
