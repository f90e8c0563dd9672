package main

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
)

// place opens the store of a configuration, as a command does.
func place(t *testing.T, environ ...string) store.Store {
	t.Helper()
	cfg, err := config.Load(config.Options{Dir: t.TempDir(), Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	st := stores{job{env: &env{environ: environ}, cfg: cfg, log: slog.New(slog.DiscardHandler), secrets: newResolver(cfg, environ)}}
	c, closed, err := st.openUnlocked(t.Context(), cfg.Backup.Place(), cfg.Backup.Access, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closed)
	return c.Store()
}

func keep(t *testing.T, file, secret string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAzureSecretReplaced: a store that is open takes the signature that was put in place of its
// own, by a manager's reference also within the minutes for which values are kept.
func TestAzureSecretReplaced(t *testing.T) {
	var valid atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, status := "BlobNotFound", http.StatusNotFound
		if r.URL.Query().Get("sig") != *valid.Load() {
			code, status = "AuthenticationFailed", http.StatusForbidden
		}
		w.Header().Set("x-ms-error-code", code)
		w.WriteHeader(status)
	}))
	defer server.Close()
	dir := t.TempDir()
	for _, reference := range []string{"file:" + filepath.Join(dir, "sas"), "credential:sas"} {
		scheme, _, _ := strings.Cut(reference, ":")
		t.Run(scheme, func(t *testing.T) {
			rotate := func(signature string) {
				keep(t, filepath.Join(dir, "sas"), "sv=1&sig="+signature)
				valid.Store(&signature)
			}
			rotate("first")
			s := place(t, "PGMEDIC_STORE=azblob://backups", "AZURE_STORAGE_ACCOUNT=clinic", "PGMEDIC_AZURE_ENDPOINT="+server.URL,
				"AZURE_STORAGE_SAS_TOKEN="+reference, "CREDENTIALS_DIRECTORY="+dir)
			for _, signature := range []string{"first", "second"} {
				rotate(signature)
				if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: %v", signature, err)
				}
			}
		})
	}
}

// TestSFTPSecretReplaced: likewise with the password of an SFTP server.
func TestSFTPSecretReplaced(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	file := filepath.Join(t.TempDir(), "password")
	keep(t, file, server.Password)
	t.Setenv("SSH_AUTH_SOCK", "")
	s := place(t, "PGMEDIC_STORE="+server.URL(t.TempDir()), "PGMEDIC_SFTP_KNOWN_HOSTS="+server.KnownHosts, "PGMEDIC_SFTP_PASSWORD=file:"+file)
	server.NewPassword()
	keep(t, file, server.Password)
	server.Drop()
	if _, err := s.Stat(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
