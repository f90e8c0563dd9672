package pool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgmedic/pgmedic/pool"
)

// cannedConn is a connection to a server that is not there: it answers what it is
// sent at once, without the kernel, so that a benchmark measures the client's
// own cost and nothing else. Every statement is SELECT $1::int and returns one
// row, except the pool's probe.
type cannedConn struct {
	mu      sync.Mutex
	arrived *sync.Cond
	out     bytes.Buffer
	in      []byte
	started bool
	probes  map[string]bool // prepared statements that are probes
	probe   bool            // the bound one is
	closed  bool
}

// cannedURL is a connection string for dialCanned.
const cannedURL = "postgres://u@127.0.0.1/d?sslmode=disable"

func dialCanned(context.Context, string, string) (net.Conn, error) {
	c := &cannedConn{probes: map[string]bool{}}
	c.arrived = sync.NewCond(&c.mu)
	return c, nil
}

func (c *cannedConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out.Len() == 0 {
		if c.closed {
			return 0, io.EOF
		}
		c.arrived.Wait()
	}
	return c.out.Read(p)
}

func (c *cannedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, p...)
	for c.answer() {
	}
	c.arrived.Signal()
	return len(p), nil
}

// answer answers one message, if there is a whole one.
func (c *cannedConn) answer() bool {
	header := 5
	if !c.started {
		header = 4
	}
	if len(c.in) < header {
		return false
	}
	end := header - 4 + int(binary.BigEndian.Uint32(c.in[header-4:]))
	if len(c.in) < end {
		return false
	}
	kind, body := c.in[0], c.in[header:end]
	defer func() { c.in = c.in[:copy(c.in, c.in[end:])] }()
	switch {
	case !c.started:
		c.started = true
		c.send(&pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{ProcessID: 7, SecretKey: make([]byte, 4)}, ready())
	case kind == 'P':
		name, rest, _ := bytes.Cut(body, []byte{0})
		c.probes[string(name)] = bytes.Contains(rest, []byte("pg_is_in_recovery"))
		c.out.Write([]byte("1\x00\x00\x00\x04"))
	case kind == 'D':
		c.describe(body[0] == 'S', c.probes[string(bytes.TrimRight(body[1:], "\x00"))])
	case kind == 'B':
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		c.probe = c.probes[string(name)]
		c.out.Write([]byte("2\x00\x00\x00\x04"))
	case kind == 'E':
		if c.probe {
			c.send(&pgproto3.DataRow{Values: probeRow()}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		} else {
			c.out.WriteString("D\x00\x00\x00\x0e\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01C\x00\x00\x00\x0dSELECT 1\x00")
		}
	case kind == 'Q': // a SET
		c.send(&pgproto3.CommandComplete{CommandTag: []byte("SET")}, ready())
	case kind == 'S':
		c.out.WriteString("Z\x00\x00\x00\x05I")
	}
	return true
}

func ready() pgproto3.BackendMessage { return &pgproto3.ReadyForQuery{TxStatus: 'I'} }

func (c *cannedConn) send(messages ...pgproto3.BackendMessage) {
	for _, m := range messages {
		text, err := m.Encode(nil)
		if err != nil {
			panic(err)
		}
		c.out.Write(text)
	}
}

// probeTypes are those of the columns of the pool's probe.
var probeTypes = []uint32{
	pgtype.BoolOID, pgtype.TextOID, pgtype.TextOID, pgtype.Float8OID, pgtype.Float8OID, pgtype.TextOID, pgtype.Int8OID, pgtype.Int4OID,
	pgtype.Float8OID, pgtype.Int8OID, pgtype.Int8OID,
}

func (c *cannedConn) describe(statement, probe bool) {
	params, types := []uint32{pgtype.Int4OID}, []uint32{pgtype.Int4OID}
	if probe {
		params, types = nil, probeTypes
	}
	fields := make([]pgproto3.FieldDescription, len(types))
	for i, oid := range types {
		fields[i] = pgproto3.FieldDescription{Name: []byte("c" + strconv.Itoa(i)), DataTypeOID: oid, TypeModifier: -1}
	}
	if statement {
		c.send(&pgproto3.ParameterDescription{ParameterOIDs: params})
	}
	c.send(&pgproto3.RowDescription{Fields: fields})
}

// probeRow says: the primary, timeline 1, process 7, system 1.
func probeRow() [][]byte {
	number := func(n uint64, size int) []byte { return binary.BigEndian.AppendUint64(nil, n)[8-size:] }
	return [][]byte{{0}, []byte("0/1"), []byte("00000001"), number(0, 8), number(0, 8), []byte("d"), number(1, 8), number(7, 4), number(0, 8), number(1, 8), number(1, 8)}
}

// TestCanned: the server that is not there is good enough for the pool, whose probe
// asks for more with time, so that the benchmarks run.
func TestCanned(t *testing.T) {
	db := open(t, pool.Config{PrimaryURL: cannedURL, DialFunc: dialCanned, Pooler: pool.PoolerNone})
	if got := one[int](t, db, "SELECT $1::int", 1); got != 1 {
		t.Errorf("%d", got)
	}
	if h := db.Health(t.Context()); h.Status != pool.StatusOK {
		t.Errorf("%+v", h)
	}
}

func (c *cannedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.arrived.Broadcast()
	return nil
}

func (c *cannedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *cannedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *cannedConn) SetDeadline(time.Time) error      { return nil }
func (c *cannedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cannedConn) SetWriteDeadline(time.Time) error { return nil }
