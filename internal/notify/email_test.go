package notify_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/pgmedic/pgmedic/internal/notify"
)

// mailServer is an SMTP server with an authority of its own.
type mailServer struct {
	port   int
	caFile string

	mu     sync.Mutex
	refuse error
	// receivers are those that are refused, and how.
	receivers map[string]error
	messages  []mailed
}

type mailed struct {
	from string
	to   []string
	text string
	tls  bool
}

func (m *mailServer) all() []mailed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]mailed(nil), m.messages...)
}

// NewSession implements smtp.Backend.
func (m *mailServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &mailSession{server: m, conn: c}, nil
}

type mailSession struct {
	server *mailServer
	conn   *smtp.Conn
	authed bool
	one    mailed
}

// AuthMechanisms implements smtp.AuthSession.
func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements smtp.AuthSession.
func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "pgmedic" || password != "p@ss:word" {
			return smtp.ErrAuthFailed
		}
		s.authed = true
		return nil
	}), nil
}

// Mail implements smtp.Session.
func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.refuse != nil {
		return s.server.refuse
	}
	_, secure := s.conn.TLSConnectionState()
	if secure && !s.authed {
		return smtp.ErrAuthRequired
	}
	s.one = mailed{from: from, tls: secure}
	return nil
}

// Rcpt implements smtp.Session.
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.server.receivers[to]; err != nil {
		return err
	}
	s.one.to = append(s.one.to, to)
	return nil
}

// Data implements smtp.Session.
func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	s.one.text = string(text)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.messages = append(s.server.messages, s.one)
	return nil
}

// Reset implements smtp.Session.
func (s *mailSession) Reset() {}

// Logout implements smtp.Session.
func (s *mailSession) Logout() error { return nil }

// startMail starts a server: with STARTTLS, with TLS from the first byte, or without TLS.
func startMail(t *testing.T, mode string) *mailServer {
	t.Helper()
	m := &mailServer{caFile: filepath.Join(t.TempDir(), "ca.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(m)
	s.Domain, s.AllowInsecureAuth = "localhost", true
	s.ErrorLog = discard{}
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	switch mode {
	case "starttls":
		s.TLSConfig = conf
	case "tls":
		l = tls.NewListener(l, conf)
	}
	var port string
	if _, port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(port, &m.port); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return m
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

// TestEmail: one message of text and HTML by STARTTLS and by TLS, with a password; and
// without either on this machine alone.
func TestEmail(t *testing.T) {
	for mode, url := range map[string]string{
		"starttls": "smtp://pgmedic:p%%40ss%%3Aword@127.0.0.1:%d", "tls": "smtps://pgmedic:p%%40ss%%3Aword@127.0.0.1:%d", "none": "smtp://127.0.0.1:%d?tls=off",
	} {
		t.Run(mode, func(t *testing.T) {
			m := startMail(t, mode)
			c := notify.Channel{Name: "dba", Type: notify.TypeEmail, To: []string{"dba@clinic.example", "ops@clinic.example"}, From: "pgmedic@clinic.example", SMTP: fmt.Sprintf(url, m.port), CAFile: m.caFile}
			o := options(t, c)
			o.Link = "https://runbook.example/pgmedic"
			s := sender(t, o)
			if _, err := s.Send(t.Context(), []notify.Event{failed("evt_1")}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Send(t.Context(), []notify.Event{succeeded("evt_2", time.Hour)}); err != nil {
				t.Fatal(err)
			}
			got := m.all()
			if len(got) != 2 || got[0].tls != (mode != "none") || got[0].from != "pgmedic@clinic.example" || strings.Join(got[0].to, " ") != "dba@clinic.example ops@clinic.example" {
				t.Fatalf("%+v", got)
			}
			first, second := parseMail(t, got[0].text), parseMail(t, got[1].text)
			if first.Header.Get("Message-Id") != "<evt_1@backup-1>" || first.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("%v", first.Header)
			}
			if ref := first.Header.Get("References"); ref == "" || ref != second.Header.Get("References") {
				t.Errorf("not one thread: %q and %q", ref, second.Header.Get("References"))
			}
			if first.Header.Get("Bcc") != "" || strings.Contains(first.Header.Get("Subject"), "\n") {
				t.Errorf("a name wrote a header: %v", first.Header)
			}
			if first.subject != "CRITICAL  clinic�[31m · production" && !strings.HasPrefix(first.subject, "CRITICAL  clinic") {
				t.Errorf("subject %q", first.subject)
			}
			if mode == "none" {
				golden(t, "email.txt", "Subject: "+first.subject+"\n\n"+first.text+"\n"+first.html+"\nSubject: "+second.subject+"\n\n"+second.text)
			}
			if strings.Contains(first.html, "<img") || strings.Contains(first.html, "<!channel>") {
				t.Errorf("the page loads something, or has markup of a name:\n%s", first.html)
			}
		})
	}
}

type parsedMail struct {
	*mail.Message
	subject, text, html string
}

// parseMail reads a message of two parts.
func parseMail(t *testing.T, raw string) parsedMail {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	p := parsedMail{Message: m}
	if p.subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%v: %s", err, kind)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := io.Copy(&text, quotedprintable.NewReader(part)); err != nil {
			t.Fatal(err)
		}
		body := strings.ReplaceAll(text.String(), "\r\n", "\n")
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			p.html = body
		} else {
			p.text = body
		}
	}
}

// TestEmailRefused: what a server can refuse, and what is not sent because it would be
// read on the way; no error has the password.
func TestEmailRefused(t *testing.T) {
	starttls, plain := startMail(t, "starttls"), startMail(t, "none")
	busy, strict := startMail(t, "none"), startMail(t, "none")
	busy.refuse = &smtp.SMTPError{Code: 451, Message: "canary"}
	strict.refuse = &smtp.SMTPError{Code: 550, Message: "canary"}
	for name, tt := range map[string]struct {
		url, ca string
		want    notify.Outcome
		words   string
	}{
		"wrong password":   {fmt.Sprintf("smtp://pgmedic:canary@127.0.0.1:%d", starttls.port), starttls.caFile, notify.OutcomeRefused, "refuses the credentials (535)"},
		"unknown CA":       {fmt.Sprintf("smtp://pgmedic:canary@127.0.0.1:%d", starttls.port), "", notify.OutcomeKept, "a certificate that is not trusted"},
		"no STARTTLS":      {fmt.Sprintf("smtp://pgmedic:canary@127.0.0.1:%d", plain.port), plain.caFile, notify.OutcomeKept, "does not offer STARTTLS"},
		"busy":             {fmt.Sprintf("smtp://127.0.0.1:%d?tls=off", busy.port), "", notify.OutcomeKept, "could not take the message (451)"},
		"refused":          {fmt.Sprintf("smtp://127.0.0.1:%d?tls=off", strict.port), "", notify.OutcomeRefused, "refuses the sender, a receiver or the message (550)"},
		"TLS off afar":     {"smtp://mail.example?tls=off", "", notify.OutcomeRefused, "may switch TLS off for this machine only"},
		"another scheme":   {"http://canary@mail.example", "", notify.OutcomeRefused, "must begin with smtp:// or smtps://"},
		"no URL":           {"canary", "", notify.OutcomeRefused, "is not an address"},
		"no file of CAs":   {"smtp://127.0.0.1:1", filepath.Join(t.TempDir(), "canary"), notify.OutcomeKept, "read the file of certificates"},
		"metadata address": {"smtp://169.254.169.254:25", "", notify.OutcomeRefused, "resolves to 169.254.169.254, to which pgmedic never connects"},
	} {
		t.Run(name, func(t *testing.T) {
			c := notify.Channel{Name: "dba", Type: notify.TypeEmail, To: []string{"dba@clinic.example"}, SMTP: "vault://smtp", CAFile: tt.ca}
			o := options(t, c)
			o.Resolve = func(context.Context, string) (string, error) { return tt.url, nil }
			results, err := sender(t, o).Send(t.Context(), []notify.Event{failed("")})
			if len(results) != 1 || results[0].Outcome != tt.want || err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%s: %v; want %s: %s", outcomes(results), err, tt.want, tt.words)
			}
			if strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("the error has a secret or an answer: %v", err)
			}
		})
	}
	if n := len(starttls.all()) + len(plain.all()); n > 0 {
		t.Errorf("%d messages arrived", n)
	}
}
