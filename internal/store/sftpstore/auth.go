package sftpstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/rotation"
)

// authenticator knows the server by its host key, and logs in.
type authenticator struct {
	o      Options
	known  ssh.HostKeyCallback
	logins *rotation.Credential[login]
	// authorities is true where the file of known hosts names authorities, which sign the
	// keys of hosts.
	authorities bool
}

func newAuthenticator(o Options) (*authenticator, error) {
	known, err := knownhosts.New(o.KnownHosts)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, pgmedic.Errorf(pgmedic.KindUsage, hostKeyHint(o), "read the known hosts: %w", err)
	case err != nil:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "look at backup.sftp.known_hosts", "read the known hosts: %w", err)
	}
	a := &authenticator{o: o, known: known}
	if text, err := os.ReadFile(o.KnownHosts); err == nil {
		a.authorities = bytes.Contains(text, []byte("@cert-authority "))
	}
	first := login{password: o.Password}
	if first.key, err = o.readKey(); err != nil {
		return nil, err
	}
	a.logins = first.renewed(o)
	return a, nil
}

// hostKeyHint says how a host key comes into the file.
func hostKeyHint(o Options) string {
	port := ""
	if o.Port != DefaultPort {
		port = "-p " + strconv.Itoa(o.Port) + " "
	}
	return fmt.Sprintf("get the key with `ssh-keyscan %s%s`, compare its fingerprint (ssh-keygen -lf) with the one that the server's administrator gives you, and add the line to %s",
		port, o.Host, o.KnownHosts)
}

// config is that of one connection. Accepted becomes true when the host key was right;
// closed is called after the handshake.
func (a *authenticator) config(ctx context.Context, as login, accepted *bool) (c *ssh.ClientConfig, closed func()) {
	c = &ssh.ClientConfig{
		User: a.o.User, Timeout: dialWithin, HostKeyAlgorithms: a.hostKeyAlgorithms(),
		HostKeyCallback: func(hostname string, remote net.Addr, key ssh.PublicKey) error {
			err := a.checkHostKey(hostname, remote, key)
			*accepted = err == nil
			return err
		},
	}
	keys, closed := a.signers(ctx, as.key)
	if len(keys) > 0 {
		c.Auth = append(c.Auth, ssh.PublicKeys(keys...))
	}
	if as.password != "" {
		c.Auth = append(c.Auth, ssh.Password(as.password), ssh.KeyboardInteractive(as.answers))
	}
	return c, closed
}

// answers are those to questions that a server asks instead of for a password: to the one
// that is not to be seen.
func (l login) answers(_, _ string, questions []string, echos []bool) ([]string, error) {
	if len(questions) == 0 {
		return nil, nil // only something to be read
	}
	if len(questions) != 1 || echos[0] {
		return nil, errors.New("the server asks for more than a password")
	}
	return []string{l.password}, nil
}

// signers are the keys to log in with. An agent that can't be reached has none. Close is
// called when they are not used any more.
func (a *authenticator) signers(ctx context.Context, own ssh.Signer) (keys []ssh.Signer, closed func()) {
	closed = func() {}
	if own != nil {
		keys = append(keys, own)
	}
	if a.o.AgentSocket == "" {
		return keys, closed
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", a.o.AgentSocket)
	if err == nil {
		closed = func() { _ = conn.Close() } // only read from
		var agentKeys []ssh.Signer
		agentKeys, err = agent.NewClient(conn).Signers()
		keys = append(keys, agentKeys...)
	}
	if err != nil {
		a.o.Logger.Warn("the SSH agent can't be asked for keys", "socket", a.o.AgentSocket, "error", err)
	}
	return keys, closed
}

// hostKeyAlgorithms are those of the keys that are known of the host: a server that has
// several must not be asked for one that is not known.
func (a *authenticator) hostKeyAlgorithms() (algorithms []string) {
	var unknown *knownhosts.KeyError
	if err := a.known(a.o.address(), &net.TCPAddr{}, noKey{}); !errors.As(err, &unknown) {
		return nil
	}
	for _, want := range unknown.Want {
		switch kind := want.Key.Type(); kind {
		case ssh.KeyAlgoRSA:
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			algorithms = append(algorithms, kind)
		}
	}
	slices.Sort(algorithms)
	algorithms = slices.Compact(algorithms)
	if a.authorities {
		algorithms = append(slices.Clone(certificateAlgorithms), algorithms...)
	}
	return algorithms
}

// certificateAlgorithms are those of host keys that an authority has signed.
var certificateAlgorithms = []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}

// noKey is a host key that no file knows.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// checkHostKey refuses a server whose key is not in the file of known hosts.
func (a *authenticator) checkHostKey(hostname string, remote net.Addr, key ssh.PublicKey) error {
	err := a.known(hostname, remote, key)
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return pgmedic.Errorf(pgmedic.KindUnreachable, "the server must get another key", "the host key of %s is revoked in %s", a.o.address(), a.o.KnownHosts)
	case errors.As(err, &unknown) && len(unknown.Want) == 0:
		return pgmedic.Errorf(pgmedic.KindUsage, hostKeyHint(a.o), "the host key of %s is not in %s; the server shows %s", a.o.address(), a.o.KnownHosts, shown)
	case errors.As(err, &unknown):
		var lines []string
		for _, want := range unknown.Want {
			lines = append(lines, strconv.Itoa(want.Line))
		}
		return pgmedic.Errorf(pgmedic.KindUnreachable, "somebody may be between this host and the server. Ask the server's administrator whether the key was changed; only then replace the line",
			"the host key of %s has changed: the server shows %s, which is not the key in %s, line %s", a.o.address(), shown, a.o.KnownHosts, strings.Join(lines, ", "))
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "look at backup.sftp.known_hosts", "the host key of %s is refused: %w", a.o.address(), err)
}
