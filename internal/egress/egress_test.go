package egress_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/egress"
)

// TestCheck: which addresses may be reached, always, where private ones are allowed, or
// never.
func TestCheck(t *testing.T) {
	for address, want := range map[string]string{
		"93.184.215.14": "public", "2606:4700::1": "public",
		"127.0.0.1": "private", "127.9.9.9": "private", "10.0.0.1": "private", "172.31.255.255": "private", "192.168.1.1": "private", "100.64.1.1": "private",
		"::1": "private", "fc00::1": "private", "fd12::1": "private", "::ffff:10.0.0.1": "private",
		"169.254.169.254": "never", "169.254.1.1": "never", "fe80::1": "never", "fe80::1%eth0": "never", "::ffff:169.254.169.254": "never", "64:ff9b::a9fe:a9fe": "never",
		"168.63.129.16": "never", "100.100.100.200": "never", "192.0.0.192": "never", "fd00:ec2::254": "never", "fd20:ce::254": "never",
		"0.0.0.0": "never", "::": "never", "224.0.0.1": "never", "255.255.255.255": "never", "ff02::1": "never",
	} {
		for _, private := range []bool{false, true} {
			err := egress.New(private).Check(netip.MustParseAddr(address))
			allowed := want == "public" || want == "private" && private
			if (err == nil) != allowed {
				t.Errorf("%s, private allowed %v: %v", address, private, err)
			}
			var blocked *egress.BlockedError
			if err != nil && (!errors.As(err, &blocked) || blocked.Private != (want == "private")) {
				t.Errorf("%s: %v", address, err)
			}
			words := map[string]string{"private": "which is a private address", "never": "to which pgmedic never connects"}[want]
			if err != nil && !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v; want %s", address, err, words)
			}
		}
	}
}

// TestDial: a connection is refused by what a name resolves to.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for private, want := range map[bool]bool{true: true, false: false} {
		conn, err := egress.New(private).Dial(t.Context(), "tcp", net.JoinHostPort("localhost", port))
		if (err == nil) != want {
			t.Errorf("private allowed %v: %v", private, err)
		}
		var blocked *egress.BlockedError
		if err != nil && !errors.As(err, &blocked) {
			t.Errorf("%v", err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// TestCheckHost: what a proxy must not be asked for, by name and by address.
func TestCheckHost(t *testing.T) {
	for host, want := range map[string]bool{
		"93.184.215.14": true, "no-such-host.invalid": true, "169.254.169.254": false, "10.0.0.1": false, "metadata.google.internal": false,
		"METADATA.google.internal.": false, "localhost": false, "a.localhost": false,
		"169.254.169.254.": false, "0xa9fea9fe": false, "2852039166": false, "0251.0376.0251.0376": false, "169.16689662": false, "0xA9.254.43518": false,
		"127.1": false, "93.14210830": true, "4294967296.invalid": true, "09.invalid": true,
	} {
		if err := egress.New(false).CheckHost(t.Context(), host); (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := egress.New(true).CheckHost(t.Context(), "localhost"); err != nil {
		t.Error(err)
	}
	for host, private := range map[string]bool{"localhost": true, "a.localhost": true, "metadata": false, "metadata.google.internal": false} {
		var blocked *egress.BlockedError
		if err := egress.New(false).CheckHost(t.Context(), host); !errors.As(err, &blocked) || blocked.Private != private {
			t.Errorf("%s: %v; private is to be %v", host, err, private)
		}
	}
}
