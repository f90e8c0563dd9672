package dumpsql_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// TestEntries reads of a dump what its statements belong to.
func TestEntries(t *testing.T) {
	const dump = `--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';

--
-- TOC entry 5 (class 1259 OID 16390)
-- Name: documents; Type: TABLE; Schema: public; Owner: postgres; Tablespace: fast
--

CREATE TABLE public.documents (a text DEFAULT '
-- Name: no; Type: TABLE; Schema: public; Owner: x
');
ALTER TABLE public.documents OWNER TO postgres;

--
-- Name: TABLE documents; Type: COMMENT; Schema: public; Owner: postgres
--

COMMENT ON TABLE public.documents IS 'x';

--
-- TOC entry 9 (class 0 OID 16390)
-- Name: documents; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.documents (a) FROM stdin;
-- Name: row; Type: TABLE; Schema: public; Owner: x
\.


--
-- Name: hstore; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION hstore;
ALTER EVENT TRIGGER "odd one" ENABLE ALWAYS;
`
	var got []string
	err := dumpsql.EachStatement(strings.NewReader(dump), func(s *dumpsql.Statement) error {
		got = append(got, s.Entry.ID+" "+s.Entry.String()+" "+s.Table)
		return nil
	})
	want := []string{
		" statement without a name ", "5 TABLE public.documents ", "5 TABLE public.documents ", " COMMENT TABLE public.documents ",
		`9 TABLE DATA public.documents "public"."documents"`, " EXTENSION hstore ", ` EVENT TRIGGER "odd one" `,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
}
