package sftpstore_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store/sftpstore"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
)

// write writes a file of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestHostKey: nothing is sent to a server whose key is not known, or has changed.
func TestHostKey(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	elsewhere := strings.Replace(server.HostKeyLine(), "[127.0.0.1]", "[192.0.2.1]", 1)
	old := server.HostKeyLine()
	server.NewHostKey()
	for name, c := range map[string]struct {
		known string
		want  pgmedic.Kind
		words string
	}{
		"unknown":   {elsewhere, pgmedic.KindUsage, "is not in"},
		"empty":     {"", pgmedic.KindUsage, "is not in"},
		"changed":   {old, pgmedic.KindUnreachable, "has changed"},
		"revoked":   {"@revoked * " + strings.SplitN(server.HostKeyLine(), " ", 2)[1] + server.HostKeyLine(), pgmedic.KindUnreachable, "revoked"},
		"not valid": {"what is this", pgmedic.KindUsage, "known hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(server, t.TempDir())
			o.KnownHosts, o.Password = write(t, "known_hosts", c.known), server.Password
			s, err := sftpstore.New(t.Context(), o)
			if s != nil || pgmedic.KindOf(err) != c.want || !strings.Contains(err.Error(), c.words) || pgmedic.HintOf(err) == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v (%v), hint %q", err, pgmedic.KindOf(err), pgmedic.HintOf(err))
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		o := options(server, t.TempDir())
		o.KnownHosts = filepath.Join(t.TempDir(), "none")
		s, err := sftpstore.New(t.Context(), o)
		if s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "ssh-keyscan -p") {
			t.Errorf("%v, hint %q", err, pgmedic.HintOf(err))
		}
	})
	t.Run("one of several", func(t *testing.T) {
		open(t, server, func(o *sftpstore.Options) { o.KnownHosts = write(t, "known_hosts", elsewhere+old+server.HostKeyLine()) })
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		s, _ := open(t, server, func(o *sftpstore.Options) { o.KnownHosts = write(t, "known_hosts", server.HostKeyLine()) })
		server.NewHostKey()
		server.Drop()
		_, err := s.Stat(t.Context(), "key")
		if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "has changed") {
			t.Errorf("%v", err)
		}
	})
}

// TestHostKeyKinds: a server that has keys of several kinds is asked for one that is known.
func TestHostKeyKinds(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{HostKeys: true})
	open(t, server)
}

// TestLogin logs in by each way that the server takes, and by none that it does not.
func TestLogin(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	asking := sftptest.Start(t, sftptest.Options{Asking: true})
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: server.Key}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		server *sftptest.Server
		change func(*sftpstore.Options)
		ok     bool
	}{
		"key":                 {server, func(*sftpstore.Options) {}, true},
		"agent":               {server, func(o *sftpstore.Options) { o.IdentityFile, o.AgentSocket = "", serveAgent(t, ring) }, true},
		"password":            {server, func(o *sftpstore.Options) { o.IdentityFile, o.Password = "", server.Password }, true},
		"asked for":           {asking, func(o *sftpstore.Options) { o.IdentityFile, o.Password = "", asking.Password }, true},
		"wrong key, password": {server, func(o *sftpstore.Options) { o.IdentityFile, o.Password = asking.IdentityFile, server.Password }, true},
		"no agent, password": {server, func(o *sftpstore.Options) {
			o.IdentityFile, o.AgentSocket, o.Password = "", "/nonexistent", server.Password
		}, true},
		"wrong key":               {server, func(o *sftpstore.Options) { o.IdentityFile = asking.IdentityFile }, false},
		"wrong password":          {server, func(o *sftpstore.Options) { o.IdentityFile, o.Password = "", "canary-of-a-password" }, false},
		"wrong password, asked":   {asking, func(o *sftpstore.Options) { o.IdentityFile, o.Password = "", "canary-of-a-password" }, false},
		"empty agent":             {server, func(o *sftpstore.Options) { o.IdentityFile, o.AgentSocket = "", serveAgent(t, agent.NewKeyring()) }, false},
		"another user's password": {server, func(o *sftpstore.Options) { o.User, o.IdentityFile, o.Password = "root", "", server.Password }, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(c.server, t.TempDir())
			c.change(&o)
			s, err := sftpstore.New(t.Context(), o)
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if s != nil || pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "does not accept the login") {
				t.Errorf("%v (%v)", err, pgmedic.KindOf(err))
			}
			for _, secret := range []string{"canary", server.Password, asking.Password} {
				if err != nil && strings.Contains(err.Error()+pgmedic.HintOf(err), secret) {
					t.Errorf("a password is in the error: %v", err)
				}
			}
		})
	}
}

// serveAgent is the socket of an SSH agent that has these keys.
func serveAgent(t *testing.T, keys agent.Agent) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = agent.ServeAgent(keys, conn) // until it is closed
			_ = conn.Close()
		}
	}()
	return dir + "/socket"
}

// TestRefused: what a Store can't do without is said, before anything is written.
func TestRefused(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("phrase"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o      sftptest.Options
		change func(*sftpstore.Options)
		words  string
	}{
		"no fsync":        {sftptest.Options{Lacking: true}, func(*sftpstore.Options) {}, "lacks fsync@openssh.com"},
		"no SFTP":         {sftptest.Options{Silent: true}, func(*sftpstore.Options) {}, "offers no SFTP"},
		"no user":         {sftptest.Options{}, func(o *sftpstore.Options) { o.User = "" }, "no user"},
		"no host":         {sftptest.Options{}, func(o *sftpstore.Options) { o.Host = "" }, "no host"},
		"no folder":       {sftptest.Options{}, func(o *sftpstore.Options) { o.Dir = "" }, "absolute"},
		"the root":        {sftptest.Options{}, func(o *sftpstore.Options) { o.Dir = "/.." }, "below /"},
		"relative":        {sftptest.Options{}, func(o *sftpstore.Options) { o.Dir = "a/b" }, "absolute"},
		"no known hosts":  {sftptest.Options{}, func(o *sftpstore.Options) { o.KnownHosts = "" }, "known hosts"},
		"no login":        {sftptest.Options{}, func(o *sftpstore.Options) { o.IdentityFile = "" }, "no key and no password"},
		"port":            {sftptest.Options{}, func(o *sftpstore.Options) { o.Port = 70000 }, "not a port"},
		"connections":     {sftptest.Options{}, func(o *sftpstore.Options) { o.Connections = -1 }, "connections"},
		"no such key":     {sftptest.Options{}, func(o *sftpstore.Options) { o.IdentityFile = "/nonexistent" }, "read the SSH key"},
		"not a key":       {sftptest.Options{}, func(o *sftpstore.Options) { o.IdentityFile = server.KnownHosts }, "no SSH private key"},
		"with passphrase": {sftptest.Options{}, func(o *sftpstore.Options) { o.IdentityFile = write(t, "key", string(pem.EncodeToMemory(locked))) }, "has a passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(sftptest.Start(t, c.o), t.TempDir())
			c.change(&o)
			s, err := sftpstore.New(t.Context(), o)
			if s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v (%v)", err, pgmedic.KindOf(err))
			}
			if got := files(t, filepath.Dir(write(t, "x", ""))); len(got) != 1 {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// TestNotAllowed: a user that may not write is told what to do, and another user's view of
// the key file is warned of.
func TestNotAllowed(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{Denied: "mkdir"})
	var log bytes.Buffer
	if err := os.Chmod(server.IdentityFile, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, _ := open(t, server, func(o *sftpstore.Options) { o.Dir, o.Logger = dir, slog.New(slog.NewTextHandler(&log, nil)) })
	_, err := s.Put(t.Context(), "a/key", strings.NewReader("x"))
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "let backup read and write") {
		t.Errorf("%v, hint %q", err, pgmedic.HintOf(err))
	}
	for _, words := range []string{"other users can read the SSH key", "open to other users of its host"} {
		if !strings.Contains(log.String(), words) {
			t.Errorf("no warning %q in %s", words, &log)
		}
	}
}

// TestReadOnly: a server that may only read is enough for whoever only reads.
func TestReadOnly(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	put(t, s, "a/key", "x")
	readonly := sftptest.Start(t, sftptest.Options{Readonly: true})
	o := options(readonly, dir)
	if s, err := sftpstore.New(t.Context(), o); s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("%v, %v", s, err)
	}
	o.MustExist = true
	s, err := sftpstore.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := read(t, s, "a/key"); got != "x" {
		t.Errorf("%q", got)
	}
	if _, err := s.Put(t.Context(), "b", strings.NewReader("x")); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "lacks") {
		t.Errorf("Put: %v", err)
	}
}

// TestString is what people see.
func TestString(t *testing.T) {
	for want, o := range map[string]sftpstore.Options{
		"sftp://u@h/a":            {User: "u", Host: "h", Dir: "/a", Password: "secret-word"},
		"sftp://u@h:2222/a":       {User: "u", Host: "h", Port: 2222, Dir: "/a"},
		"sftp://u@[::1]/a":        {User: "u", Host: "::1", Dir: "/a"},
		"sftp://u@[::1]:2222/a/b": {User: "u", Host: "::1", Port: 2222, Dir: "/a/b"},
	} {
		if got := o.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
