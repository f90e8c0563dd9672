package postgres

import (
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// known is what sessions of a Target and its copies have shown of what answers at
// its addresses. A nil one remembers nothing.
type known struct {
	poolers poolers

	mu sync.Mutex
	at map[address]shown
}

// address is a host and a port as a Target has them.
type address struct{ host, port string }

type shown struct {
	major  int  // the server's version
	pooler bool // sessions can't begin with settings of their own
}

func (t Target) address() address { return address{t.params["host"], t.params["port"]} }

func (k *known) get(a address) (s shown, ok bool) {
	if k == nil {
		return shown{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok = k.at[a]
	return s, ok
}

func (k *known) set(a address, s shown) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at == nil {
		k.at = map[address]shown{}
	}
	k.at[a] = s
}

// majorOf returns the major version of the server that a session is with, or zero.
func majorOf(conn *pgx.Conn) int {
	version := conn.PgConn().ParameterStatus("server_version")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	major, _ := strconv.Atoi(version[:end])
	return major
}

// unhurried are the timeouts of a server version. They go into the startup packet,
// for one of a few milliseconds would end the session before a statement turned it
// off. Zero stands for a version that is not known yet.
func unhurried(major int) []string {
	names := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
	if major >= 14 {
		names = append(names, "idle_session_timeout")
	}
	if major >= 17 {
		names = append(names, "transaction_timeout")
	}
	return names
}

// Unhurried returns the options, as PGOPTIONS takes them, by which a client
// program's session has none of the server's timeouts.
func (t Target) Unhurried() string {
	s, _ := t.known.get(t.address())
	return "-c " + strings.Join(unhurried(s.major), "=0 -c ") + "=0"
}
