package pool

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestWire has messages pass in pieces of every size: what they say does not depend on
// how they are cut.
func TestWire(t *testing.T) {
	fatal := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "Z2D ends"}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	start := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{SecretKey: make([]byte, 4)}, ready}
	extended := []pgproto3.FrontendMessage{&pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	for name, tt := range map[string]struct {
		sent     []pgproto3.FrontendMessage
		received []pgproto3.BackendMessage
		unread   bool
	}{
		"at once":              {extended, []pgproto3.BackendMessage{fatal}, true},
		"after a notice":       {extended, []pgproto3.BackendMessage{&pgproto3.NoticeResponse{Message: "ZZZ"}, fatal}, true},
		"bound":                {extended, []pgproto3.BackendMessage{&pgproto3.BindComplete{}, fatal}, false},
		"with a row":           {extended, []pgproto3.BackendMessage{&pgproto3.BindComplete{}, &pgproto3.DataRow{Values: [][]byte{[]byte("Z....")}}, fatal}, false},
		"done":                 {extended, []pgproto3.BackendMessage{&pgproto3.BindComplete{}, &pgproto3.CommandComplete{}, fatal}, false},
		"simple":               {[]pgproto3.FrontendMessage{&pgproto3.Query{String: "COMMIT"}}, []pgproto3.BackendMessage{fatal}, false},
		"the first of two":     {append(extended[:3:3], extended...), []pgproto3.BackendMessage{&pgproto3.BindComplete{}, &pgproto3.CommandComplete{}, ready, fatal}, false},
		"prepared just before": {[]pgproto3.FrontendMessage{&pgproto3.Bind{}, &pgproto3.Sync{}}, []pgproto3.BackendMessage{fatal}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var begin, sent, received []byte
			encode := func(to []byte, m interface{ Encode([]byte) ([]byte, error) }) []byte {
				text, err := m.Encode(to)
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			for _, m := range start {
				begin = encode(begin, m)
			}
			for _, m := range tt.sent {
				sent = encode(sent, m)
			}
			for _, m := range tt.received {
				received = encode(received, m)
			}
			for size := 1; size <= len(begin)+len(received); size++ {
				s := &session{endpoint: &endpoint{}}
				s.endpoint.pooled.Store(pooledNo)
				pass := func(text []byte) {
					for r := bytes.NewReader(text); r.Len() > 0; {
						piece := make([]byte, min(size, r.Len()))
						_, _ = r.Read(piece)
						s.wire.received(piece)
					}
				}
				s.wire.sent(encode(nil, &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "u"}}))
				pass(begin)
				s.wire.sent(sent)
				pass(received)
				err := pgproto3Error(fatal)
				if got := s.unread(err); got != tt.unread || isUnread(err) {
					t.Fatalf("in pieces of %d: unread is %t", size, got)
				}
			}
		})
	}
}

func pgproto3Error(m *pgproto3.ErrorResponse) error { return pgconn.ErrorResponseToPgError(m) }
