package sending

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// MailServer is where e-mail goes, and how.
type MailServer struct {
	Host           string
	Port           int
	User, Password string
	// Implicit is TLS from the first byte, Off is none.
	Implicit, Off bool
}

// ParseMailServer reads smtp://user:password@host:587, smtps://… for TLS from the first byte, or
// smtp://localhost?tls=off. Its error is the rest of a sentence, and quotes nothing.
func ParseMailServer(text string) (MailServer, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return MailServer{}, errors.New("is not an address such as smtp://user:password@mail.example:587")
	}
	s := MailServer{Host: u.Hostname(), Port: 587}
	switch u.Scheme {
	case "smtp":
	case "smtps":
		s.Implicit, s.Port = true, 465
	default:
		return MailServer{}, errors.New("must begin with smtp:// or smtps://")
	}
	if u.Port() != "" {
		if s.Port, err = strconv.Atoi(u.Port()); err != nil || s.Port < 1 || s.Port > 65535 {
			return MailServer{}, errors.New("has a port that is not one")
		}
	}
	s.User = u.User.Username()
	s.Password, _ = u.User.Password()
	for name, values := range u.Query() {
		if name != "tls" || len(values) != 1 || values[0] != "off" {
			return MailServer{}, errors.New("has a parameter other than tls=off")
		}
		s.Off = true
	}
	if s.Off && (s.Implicit || !loopback(s.Host)) {
		return MailServer{}, errors.New("may switch TLS off for this machine only")
	}
	return s, nil
}

// loopback reports whether a host is this machine, whatever a resolver says.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
