package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// collected is what a base backup brought.
type collected struct {
	start    replication.BaseBackupStart
	archives map[uint32]int
	manifest []byte
	warnings []string
}

func (c *collected) options() replication.BaseBackupOptions {
	c.archives = map[uint32]int{}
	return replication.BaseBackupOptions{
		Label: "pgmedic test", Fast: true,
		Started: func(s replication.BaseBackupStart) error { c.start = s; return nil },
		Archive: func(oid uint32, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			c.archives[oid] += int(n)
			return err
		},
		Manifest: func(r io.Reader) (err error) { c.manifest, err = io.ReadAll(r); return err },
		Warning:  func(m string) { c.warnings = append(c.warnings, m) },
	}
}

// TestBaseBackup: of a server of each version all parts come, in full also where the caller
// reads none of them, and an error of the caller ends it.
func TestBaseBackup(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			_, target := startServer(t, major, nil)
			c := connect(t, target)
			layout, err := c.Layout(t.Context())
			if want := (replication.Layout{VersionNum: layout.VersionNum, BlockBytes: 8192, SegmentBytes: 1 << 30, Checksums: layout.Checksums}); err != nil || layout != want || layout.VersionNum/10000 != major {
				t.Fatalf("%+v, %v", layout, err)
			}
			var got collected
			end, err := c.BaseBackup(t.Context(), got.options())
			if err != nil || end.LSN <= got.start.LSN || end.Timeline != 1 || got.start.Timeline != 1 || len(got.archives) != 1 || got.archives[0] < 10<<20 ||
				(len(got.manifest) > 0) != (major >= 13) || got.start.SizeBytes < 10<<20 {
				t.Fatalf("%+v to %+v: archives %v, manifest of %d bytes, %v", got.start, end, got.archives, len(got.manifest), err)
			}
			// The connection can be used again, and what is not read is passed over.
			o := got.options()
			o.Archive = func(uint32, io.Reader) error { return nil }
			o.Manifest = func(io.Reader) error { return nil }
			if _, err := c.BaseBackup(t.Context(), o); err != nil {
				t.Errorf("nothing is read: %v", err)
			}
			stop := errors.New("stop")
			o.Archive = func(uint32, io.Reader) error { return stop }
			if _, err := c.BaseBackup(t.Context(), o); !errors.Is(err, stop) {
				t.Errorf("an error of the caller: %v", err)
			}
		})
	}
}

func TestBaseBackupOptions(t *testing.T) {
	var c replication.Conn
	for name, o := range map[string]replication.BaseBackupOptions{
		"a label that ends the command": {Label: "x'); DROP"}, "no label": {}, "a rate that is too low": {Label: "x", MaxRate: 1000},
		"a rate that is too high": {Label: "x", MaxRate: 2 << 30}, "a negative rate": {Label: "x", MaxRate: -1},
	} {
		if _, err := c.BaseBackup(t.Context(), o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// say is a server that says what a test has it say: an answer for BASE_BACKUP.
func say(t *testing.T, version string, messages ...pgproto3.BackendMessage) postgres.Target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = serve(conn, version, messages) }()
		}
	}()
	return postgrestest.Parse(t, "postgres://u@"+listener.Addr().String()+"/d?sslmode=disable")
}

func serve(conn net.Conn, version string, messages []pgproto3.BackendMessage) error {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return err
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := b.Flush(); err != nil {
		return err
	}
	if _, err := b.Receive(); err != nil {
		return err
	}
	for _, m := range messages {
		b.Send(m)
	}
	if err := b.Flush(); err != nil {
		return err
	}
	_, err := b.Receive() // until the other side hangs up
	return err
}

func row(values ...string) *pgproto3.DataRow {
	r := &pgproto3.DataRow{}
	for _, v := range values {
		if v == "" {
			r.Values = append(r.Values, nil)
		} else {
			r.Values = append(r.Values, []byte(v))
		}
	}
	return r
}

func data(kind byte, text string) *pgproto3.CopyData {
	return &pgproto3.CopyData{Data: append([]byte{kind}, text...)}
}

// TestHostileServer: whatever a server sends, a base backup that is not whole ends with an
// error, in little memory and in time.
func TestHostileServer(t *testing.T) {
	set, done, ready := &pgproto3.RowDescription{}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}
	begin := []pgproto3.BackendMessage{set, row("0/2000028", "1"), done, set, row("16400", "/srv/ts", "10"), row("", "", "1000"), done}
	files := []pgproto3.BackendMessage{
		&pgproto3.CopyOutResponse{}, data('n', "16400.tar\x00/srv/ts\x00"), data('d', "one"), data('p', "12345678"), data('d', "two"),
		data('n', "base.tar\x00\x00"), data('d', "three"), data('m', ""), data('d', "{}"), &pgproto3.CopyDone{},
	}
	end := []pgproto3.BackendMessage{set, row("0/2000100", "1"), done, done, ready}
	all := slices.Concat(begin, files, end)
	take := func(t *testing.T, messages []pgproto3.BackendMessage) (collected, error) {
		t.Helper()
		c := connect(t, say(t, "15.0", messages...))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var got collected
		_, err := c.BaseBackup(ctx, got.options())
		if ctx.Err() != nil {
			t.Error("it takes for ever")
		}
		return got, err
	}
	got, err := take(t, all)
	if err != nil || got.archives[16400] != 6 || got.archives[0] != 5 || string(got.manifest) != "{}" || got.start.Tablespaces[0].Location != "/srv/ts" {
		t.Fatalf("%+v, %v", got, err)
	}
	replaced := func(i int, m ...pgproto3.BackendMessage) []pgproto3.BackendMessage {
		return slices.Concat(all[:i], m, all[i+1:])
	}
	cases := map[string][]pgproto3.BackendMessage{
		"no beginning":                slices.Concat(begin[3:], files, end),
		"no tablespaces":              slices.Concat(begin[:3], files, end),
		"no end":                      slices.Concat(begin, files, []pgproto3.BackendMessage{ready}),
		"an end before the beginning": slices.Concat(begin, files, []pgproto3.BackendMessage{set, row("0/1000000", "1"), done, ready}),
		"files before the beginning":  slices.Concat(files, begin, end),
		"files twice":                 slices.Concat(begin, files, files, end),
		"files behind the end":        slices.Concat(begin, end[:3], files, end),
		"a position that is none":     replaced(1, row("x", "1")),
		"no timeline":                 replaced(1, row("0/2000028", "0")),
		"a row that is short":         replaced(1, row("0/2000028")),
		"an OID that is none":         replaced(4, row("-1", "/srv/ts", "10")),
		"an OID twice":                replaced(4, row("16400", "/a", "10"), row("16400", "/b", "10")),
		"no folder":                   replaced(4, row("16400", "", "10")),
		"a folder that is long":       replaced(4, row("16400", "/"+strings.Repeat("x", 5000), "10")),
		"a size that is negative":     replaced(4, row("16400", "/srv/ts", "-10")),
		"a size that is none":         replaced(4, row("16400", "/srv/ts", "many")),
		"a tablespace too few":        replaced(8, data('d', "")),
		"an unknown tablespace":       replaced(8, data('n', "16401.tar\x00/x\x00")),
		"a name that is none":         replaced(8, data('n', "../../etc/passwd\x00/x\x00")),
		"a name without an end":       replaced(8, data('n', "16400.tar")),
		"an archive twice":            replaced(8, data('n', "base.tar\x00\x00"), data('n', "base.tar\x00\x00")),
		"data before a name":          replaced(8, data('d', "x"), all[8]),
		"no manifest":                 replaced(14, data('d', "x")),
		"a manifest before the files": replaced(8, data('m', ""), all[8]),
		"a manifest twice":            replaced(14, data('m', ""), data('m', "")),
		"an unknown message":          replaced(9, data('z', "x")),
		"an empty message":            replaced(9, &pgproto3.CopyData{}),
		"a message that is too large": replaced(9, data('d', strings.Repeat("x", 2<<20))),
		"a row among the files":       replaced(9, row("x")),
		"the end among the files":     replaced(9, ready),
		"another row behind the end":  slices.Concat(begin, files, end[:3], []pgproto3.BackendMessage{set, row("0/2000100", "1"), ready}),
	}
	many := make([]pgproto3.BackendMessage, 0, 10010)
	for i := range 10010 {
		many = append(many, row(strconv.Itoa(i+20000), "/x", "1"))
	}
	cases["too many tablespaces"] = replaced(4, many...)
	for i := range len(all) - 1 { // cut anywhere: the connection ends
		if i > 0 {
			cases[fmt.Sprintf("cut behind message %d", i)] = append(slices.Clone(all[:i]), &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "stopping"})
		}
	}
	for name, messages := range cases {
		t.Run(name, func(t *testing.T) {
			if got, err := take(t, messages); err == nil {
				t.Errorf("it is taken: %+v", got)
			}
		})
	}
	t.Run("a refusal", func(t *testing.T) {
		_, err := take(t, []pgproto3.BackendMessage{&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "must be superuser or replication role"}, ready})
		if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "REPLICATION") {
			t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
		}
	})
	t.Run("a warning", func(t *testing.T) {
		got, err := take(t, replaced(9, &pgproto3.NoticeResponse{Severity: "WARNING", Message: "skipping special file"}, data('d', "one")))
		if err != nil || !bytes.Equal([]byte(strings.Join(got.warnings, ",")), []byte("skipping special file")) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
