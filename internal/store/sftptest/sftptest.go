// Package sftptest gives tests a real SFTP server: OpenSSH's sftp-server, behind an SSH
// server of the test's own, which needs no user and no privilege. A server that can't be
// had fails the test: nothing is skipped without being asked.
package sftptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Options say how a Server runs.
type Options struct {
	// Lacking has another SFTP server answer, which has no fsync@openssh.com.
	Lacking bool
	// Asking has passwords asked for as questions (keyboard-interactive) only.
	Asking bool
	// Readonly has OpenSSH's server change nothing.
	Readonly bool
	// Denied are requests that OpenSSH's server refuses, such as "mkdir", with commas.
	Denied string
	// Silent offers no SFTP.
	Silent bool
	// Endless has another SFTP server answer, whose folders have no last entry.
	Endless bool
	// HostKeys gives the server host keys of other kinds, too, which KnownHosts does not
	// have.
	HostKeys bool
}

// Server is a running server. It listens on a port of the loopback interface that the
// system chose, and gives every user that logs in the files of the test's own user.
type Server struct {
	// Host and Port are where it listens.
	Host string
	Port int
	// User, Password and IdentityFile are those that it lets in. The key in IdentityFile
	// has no passphrase. NewPassword and NewIdentity replace them.
	User, Password, IdentityFile string
	// KnownHosts is a file of its host key.
	KnownHosts string
	// Key is the private key in IdentityFile.
	Key ed25519.PrivateKey

	tb      testing.TB
	o       Options
	program string
	public  ssh.PublicKey

	mu       sync.Mutex
	host     ssh.Signer
	others   []ssh.Signer
	listener net.Listener
	conns    map[net.Conn]bool
	opened   int
	files    int            // that were opened, less those that were closed
	cuts     map[string]int // of requests by their extension's name
	running  sync.WaitGroup
}

// Start starts a server, and stops it at the end of the test.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	dir := tb.TempDir()
	s := &Server{
		Host: "127.0.0.1", User: "backup", Password: "password-" + rand.Text(),
		IdentityFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
		tb: tb, o: o, program: program(tb), conns: map[net.Conn]bool{}, cuts: map[string]int{},
	}
	s.NewIdentity(s.IdentityFile)
	s.NewHostKey()
	if o.HostKeys {
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			private, err := ecdsa.GenerateKey(curve, rand.Reader)
			s.check(err)
			signer, err := ssh.NewSignerFromKey(private)
			s.check(err)
			s.others = append(s.others, signer)
		}
	}
	s.Restart()
	s.check(os.WriteFile(s.KnownHosts, []byte(s.HostKeyLine()), 0o600))
	tb.Cleanup(s.Stop)
	return s
}

func (s *Server) check(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

// NewPassword lets another password in, in place of the one before, for connections from now
// on.
func (s *Server) NewPassword() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Password = "password-" + rand.Text()
}

// NewIdentity lets another key in, in place of the one before, for connections from now on, and
// writes it into a file.
func (s *Server) NewIdentity(file string) {
	s.tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	s.check(err)
	known, err := ssh.NewPublicKey(public)
	s.check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	s.check(err)
	s.check(os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Key, s.public = private, known
}

// NewHostKey gives the server another host key, for connections from now on.
func (s *Server) NewHostKey() {
	s.tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	s.check(err)
	signer, err := ssh.NewSignerFromKey(private)
	s.check(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = signer
}

// HostKeyLine is the line of its host key in a file of known hosts.
func (s *Server) HostKeyLine() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return knownhosts.Line([]string{knownhosts.Normalize(net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))}, s.host.PublicKey()) + "\n"
}

// URL is that of a folder, which is an absolute path.
func (s *Server) URL(dir string) string {
	return "sftp://" + s.User + "@" + net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) + dir
}

// Restart starts the server on its port, after Stop.
func (s *Server) Restart() {
	s.tb.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(s.tb.Context(), "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	s.check(err)
	s.Port = listener.Addr().(*net.TCPAddr).Port
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	s.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it was stopped
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.opened++
			host := s.host
			s.mu.Unlock()
			s.running.Go(func() { s.serve(conn, host) })
		}
	})
}

// Stop ends the server and its connections, as a host that goes away does.
func (s *Server) Stop() {
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.mu.Unlock()
	s.Drop()
	s.running.Wait()
}

// Drop cuts all connections off.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close() // it may have ended
	}
}

// Opened returns how many connections there were.
func (s *Server) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// serve answers one connection.
func (s *Server) serve(raw net.Conn, host ssh.Signer) {
	defer func() {
		_ = raw.Close()
		s.mu.Lock()
		delete(s.conns, raw)
		s.mu.Unlock()
	}()
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config(host))
	if err != nil {
		return // it was refused
	}
	defer conn.Close()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	sessions.Go(func() { ssh.DiscardRequests(requests) })
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, asked, err := offered.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() { s.session(channel, asked) })
	}
}

var errRefused = errors.New("refused")

func (s *Server) config(host ssh.Signer) *ssh.ServerConfig {
	s.mu.Lock()
	own, secret := s.public, s.Password
	s.mu.Unlock()
	c := &ssh.ServerConfig{
		PublicKeyCallback: func(who ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if who.User() != s.User || !bytes.Equal(key.Marshal(), own.Marshal()) {
				return nil, errRefused
			}
			return nil, nil
		},
	}
	if s.o.Asking {
		c.KeyboardInteractiveCallback = func(who ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || who.User() != s.User || len(answers) != 1 || answers[0] != secret {
				return nil, errRefused
			}
			return nil, nil
		}
	} else {
		c.PasswordCallback = func(who ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if who.User() != s.User || string(password) != secret {
				return nil, errRefused
			}
			return nil, nil
		}
	}
	c.AddHostKey(host)
	for _, other := range s.others {
		c.AddHostKey(other)
	}
	return c
}

// session runs the subsystem that is asked for, until the channel or the program ends.
func (s *Server) session(channel ssh.Channel, asked <-chan *ssh.Request) {
	defer channel.Close()
	var started sync.WaitGroup
	defer started.Wait()
	for request := range asked {
		wanted := request.Type == "subsystem" && len(request.Payload) > 4 && !s.o.Silent &&
			string(request.Payload[4:]) == "sftp" && binary.BigEndian.Uint32(request.Payload) == 4
		if request.WantReply {
			_ = request.Reply(wanted, nil)
		}
		if wanted {
			started.Go(func() {
				defer channel.Close()
				s.run(channel)
			})
		}
	}
}

func (s *Server) run(channel ssh.Channel) {
	if s.o.Lacking {
		server, err := sftp.NewServer(channel)
		if err == nil {
			_ = server.Serve() // it ends with the channel
		}
		return
	}
	if s.o.Endless {
		_ = sftp.NewRequestServer(channel, sftp.Handlers{FileList: endless{}}).Serve() // likewise
		return
	}
	args := []string{"-e"}
	if s.o.Readonly {
		args = append(args, "-R")
	}
	if s.o.Denied != "" {
		args = append(args, "-P", s.o.Denied)
	}
	cmd := exec.Command(s.program, args...)
	w := &wire{s: s, waited: map[uint32]bool{}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &fromClient{r: channel, w: w}, &toClient{w: channel, wire: w}, channel.Stderr()
	_ = cmd.Run() // likewise
}

// program is OpenSSH's sftp-server, where the distributions have it.
func program(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server"} {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			return name
		}
	}
	tb.Fatal("OpenSSH's sftp-server is not installed: run scripts/setup.sh")
	return ""
}
