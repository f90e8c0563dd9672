package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schematest"
)

// TestJSONErrors: each kind of error has its exit code, which is also the one that
// docs/exit-codes.md lists for it, and what others wrote into the message drives no
// terminal.
func TestJSONErrors(t *testing.T) {
	page, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind := pgmedic.KindFailed; kind <= pgmedic.KindInterrupted; kind++ {
		var out bytes.Buffer
		(&env{stderr: &out}).printJSONError(pgmedic.Errorf(kind, "look <there>", "no database %q\x1b[2J\nerror: forged", "clinic"), exitCode(kind))
		schematest.Check(t, "error.schema.json", out.Bytes())
		var got map[string]map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
			t.Fatalf("%v: %s", err, out.String())
		}
		e, code := got["error"], exitCode(kind)
		if e["kind"] != kind.String() || e["exit_code"] != float64(code) || e["hint"] != "look <there>" {
			t.Errorf("%s: %+v", kind, e)
		}
		if message, _ := e["message"].(string); !strings.HasPrefix(message, `no database "clinic"`) || strings.ContainsAny(message, "\x1b\n") {
			t.Errorf("%s: message %q", kind, message)
		}
		if want := "`" + kind.String() + "` (" + strconv.Itoa(code) + ")"; !bytes.Contains(page, []byte(want)) {
			t.Errorf("docs/exit-codes.md does not have %s", want)
		}
	}
}
