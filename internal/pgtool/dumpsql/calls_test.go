package dumpsql_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// heard writes down what a RowCounter and its Calls were told.
type heard struct {
	rows    map[string]*bytes.Buffer
	columns map[string]string
	calls   []string
}

func (h *heard) Begin(oid uint32) { h.calls = append(h.calls, fmt.Sprintf("object %d: ", oid)) }
func (h *heard) End()             { h.calls[len(h.calls)-1] += "." }
func (h *heard) Write(p []byte) (int, error) {
	h.calls[len(h.calls)-1] += string(p)
	return len(p), nil
}

func hear(dump string, size int, seed uint64) *heard {
	h := &heard{rows: map[string]*bytes.Buffer{}, columns: map[string]string{}}
	calls := dumpsql.Calls{LargeObject: h, Sequence: func(name string, value int64, called bool) {
		h.calls = append(h.calls, fmt.Sprintf("sequence %s %d %v", name, value, called))
	}}
	counter := dumpsql.RowCounter{OnCall: calls.Take, OnRows: func(table string, columns []string) io.Writer {
		h.rows[table], h.columns[table] = &bytes.Buffer{}, strings.Join(columns, ",")
		return h.rows[table]
	}}
	random := rand.New(rand.NewPCG(seed, uint64(size)))
	for len(dump) > 0 {
		n := min(1+random.IntN(size), len(dump))
		_, _ = counter.Write([]byte(dump[:n])) // never fails
		dump = dump[n:]
	}
	return h
}

func TestCallsAndRows(t *testing.T) {
	const dump = `SELECT pg_catalog.set_config('search_path', '', false);
COPY public.t (id, "a ""b") FROM stdin;
1	x
\N	\\.
\\	\.y
\
\.y	z
\.
COPY "s;".empty  FROM stdin;


\.
COPY public.none (id) FROM stdin;
\.
-- a comment; SELECT pg_catalog.setval('public.no', 1, true);
SELECT pg_catalog.setval('public.t_id_seq', 5, true);
SELECT pg_catalog.setval('"it''s"."a;b"', -7, false);
SELECT pg_catalog.setval( E'"b\\s".q', 9223372036854775807, true);
SELECT public.setval('public.other', 5, true);
SELECT pg_catalog.lo_open('16400', 131072);
SELECT pg_catalog.lowrite(0, '\x613b');
SELECT pg_catalog.lowrite(0, E'\\x6263');
SELECT pg_catalog.lo_close(0);
SELECT pg_catalog.lo_open('4294967295', 131072);
SELECT pg_catalog.lo_close(0);
`
	rows := map[string]string{
		`"public"."t"`: "1\tx\n\\N\t\\\\.\n\\\\\t\\.y\n\\\n\\.y\tz\n", `"s;"."empty"`: "\n\n", `"public"."none"`: "",
	}
	calls := []string{
		"sequence public.t_id_seq 5 true", `sequence "it's"."a;b" -7 false`, `sequence "b\s".q 9223372036854775807 true`,
		"object 16400: a;bc.", "object 4294967295: .",
	}
	for _, size := range []int{1, 2, 3, 5, 4096} {
		for seed := range uint64(20) {
			h := hear(dump, size, seed)
			for table, want := range rows {
				if got := h.rows[table].String(); got != want {
					t.Fatalf("in pieces of %d: rows of %s are %q, want %q", size, table, got, want)
				}
			}
			if len(h.rows) != len(rows) {
				t.Fatalf("in pieces of %d: rows of %d tables, want %d", size, len(h.rows), len(rows))
			}
			if got := strings.Join(h.calls, "\n"); got != strings.Join(calls, "\n") {
				t.Fatalf("in pieces of %d: %s\nwant\n%s", size, got, strings.Join(calls, "\n"))
			}
			if got := h.columns[`"public"."t"`]; got != `id,a "b` {
				t.Fatalf("columns %s", got)
			}
		}
	}
}
