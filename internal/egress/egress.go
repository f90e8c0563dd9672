// Package egress says which addresses a message or a request may be sent to: never those by which
// clouds hand out credentials and link-local ones, and private ones only where that is
// allowed. It is asked with the address that a name was resolved to, so a name can't come
// to mean another address in between.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Guard refuses connections to addresses that nothing has a reason to reach. It may be
// used by several goroutines.
type Guard struct {
	guardian *ssrf.Guardian
	private  bool
}

// BlockedError says which address was refused. Its text is the rest of a sentence that
// begins with what was to be reached.
type BlockedError struct {
	Address string
	// Private is true of an address that is refused because private ones are.
	Private bool
}

func (e *BlockedError) Error() string {
	if e.Private {
		return "resolves to " + e.Address + ", which is a private address"
	}
	return "resolves to " + e.Address + ", to which pgmedic never connects: it is link-local or reserved, or hands out credentials of a cloud"
}

// metadata are addresses by which clouds hand out credentials and that are not
// link-local: Azure's, Alibaba's, Oracle's, and those of AWS and Google in IPv6.
func metadata() []netip.Addr {
	var all []netip.Addr
	for _, text := range []string{"168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"} {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// New returns a Guard, which with private lets private addresses and the loopback
// through.
func New(private bool) *Guard {
	options := []ssrf.Option{ssrf.WithAnyPort()}
	if private {
		v4, v6 := privatePrefixes()
		options = append(options, ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	}
	return &Guard{guardian: ssrf.New(options...), private: private}
}

// privatePrefixes are the private networks, the loopback and shared address space.
func privatePrefixes() (v4, v6 []netip.Prefix) {
	for _, text := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"} {
		v4 = append(v4, netip.MustParsePrefix(text))
	}
	return v4, []netip.Prefix{netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("::1/128")}
}

// Check returns a *BlockedError for an address that may not be reached.
func (g *Guard) Check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	err := g.guardian.SafeAddr(addr)
	if err == nil && !slices.Contains(metadata(), addr) {
		return nil
	}
	return &BlockedError{Address: addr.String(), Private: !g.private && New(true).Check(addr) == nil}
}

// control is net.Dialer.Control.
func (g *Guard) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address to connect to: %w", err)
	}
	return g.Check(at.Addr())
}

// DialTimeout bounds how long one connection is waited for.
const DialTimeout = 5 * time.Second

// Dial connects to an address that the guard lets through.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: DialTimeout, Control: g.control}
	return dialer.DialContext(ctx, network, address) //nolint:wrapcheck // the caller says what was to be reached
}

// CheckLiteral is Check of a host that is written as an address, also in the forms that
// resolvers and proxies read as one. It lets names through.
func (g *Guard) CheckLiteral(host string) error {
	addr, is := literal(host)
	if !is {
		return nil
	}
	return g.Check(addr)
}

// literal is the address that a host is written as: with a dot behind it, and IPv4 also as
// inet_aton(3) reads it, in one to four parts that are decimal, octal or hexadecimal.
func literal(host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(host, ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		base, digits := 10, strings.ToLower(part)
		if hex, is := strings.CutPrefix(digits, "0x"); is {
			base, digits = 16, hex
		} else if len(digits) > 1 && digits[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		if last := i == len(parts)-1; last { // it takes what is left
			bits := 8 * (5 - len(parts))
			if n >= 1<<bits {
				return netip.Addr{}, false
			}
			value = value<<bits | n
		} else if n > 255 {
			return netip.Addr{}, false
		} else {
			value = value<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// CheckHost is Check of a host that a proxy will connect to: by its name, and by what
// that resolves to here, if it does.
func (g *Guard) CheckHost(ctx context.Context, host string) error {
	if addr, is := literal(host); is {
		return g.Check(addr)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case name == "metadata", name == "metadata.google.internal":
		return &BlockedError{Address: "the metadata service of a cloud"}
	case !g.private && (name == "localhost" || strings.HasSuffix(name, ".localhost")):
		return &BlockedError{Address: "this machine", Private: true}
	}
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var notFound *net.DNSError
	if errors.As(err, &notFound) { // only the proxy can resolve it
		return nil
	}
	if err != nil {
		return fmt.Errorf("resolve the host: %w", err)
	}
	for _, addr := range addrs {
		if err := g.Check(addr); err != nil {
			return err
		}
	}
	return nil
}
