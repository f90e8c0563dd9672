package dumpfile_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestChecksumsBeside: what files beside the dump say is compared, in one order, and what
// is not read is named.
func TestChecksumsBeside(t *testing.T) {
	dump := []byte("--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.1\n")
	sum, other := fmt.Sprintf("%x", sha256.Sum256(dump)), strings.Repeat("0", 64)
	large := strings.Repeat(" ", 64<<10)
	for name, tt := range map[string]struct {
		suffix, text string
		refused      string
		outcome      pgmedic.Outcome
		detail       string
		database     string
	}{
		"none":              {".txt", "", "", pgmedic.OutcomeSkipped, "no checksum beside it: not checked", ""},
		"sha256":            {".sha256", sum + "  x\n", "", pgmedic.OutcomeOK, "dump.bin.sha256", ""},
		"an HMAC":           {".hmac", other, "", pgmedic.OutcomeSkipped, "not checked: dump.bin.hmac", ""},
		"another sha256":    {".sha256", other, "says " + other, "", "", ""},
		"a large sha256":    {".sha256", large + sum, "larger than 64 KiB", "", "", ""},
		"JSON":              {".json", `{"checksum":"sha256:` + strings.ToUpper(sum) + `"}`, "", pgmedic.OutcomeOK, "dump.bin.json", ""},
		"of several one":    {".json", `{"sha256":"` + other + `","a":{"hash":"` + sum + `"},"z":{"hash":"` + strings.Repeat("1", 64) + `"}}`, "", pgmedic.OutcomeOK, "dump.bin.json", ""},
		"of several none":   {".json", `{"sha256":"` + other + `","a":{"hash":"` + strings.Repeat("1", 64) + `"}}`, "says " + other + ", 111", "", "", ""},
		"the outer one":     {".json", `{"a":{"database":"inner","file":"other.sql","size":1},"database":"outer","file":"dump.bin","size":` + strconv.Itoa(len(dump)) + `,"z":{"database":"last"}}`, "", pgmedic.OutcomeSkipped, "not checked", "outer"},
		"the first inside":  {".json", `{"b":{"database":"second"},"a":{"database":"first"}}`, "", pgmedic.OutcomeSkipped, "not checked", "first"},
		"of another file":   {".json", `{"file":"other.sql","sha256":"` + other + `"}`, "", pgmedic.OutcomeSkipped, "not checked", ""},
		"the size":          {".json", `{"size":1}`, "says 1", "", "", ""},
		"JSON that is much": {".json", `{"sha256":"` + other + `"}` + large, "", pgmedic.OutcomeSkipped, "not read, because larger than 64 KiB: dump.bin.json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, dump)
			if err := os.WriteFile(path+tt.suffix, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 20 { // the order of a map's keys is random
				f, err := dumpfile.Open(t.Context(), options(t, path))
				if err != nil {
					t.Fatal(err)
				}
				check, err := f.CheckChecksum(t.Context(), "")
				f.Close()
				if tt.refused != "" {
					fixture.WantKind(t, err, pgmedic.KindIntegrity, tt.refused)
					continue
				}
				if err != nil || check.Outcome != tt.outcome || !strings.Contains(check.Detail, tt.detail) || f.Database != tt.database {
					t.Errorf("%+v, database %q, %v", check, f.Database, err)
				}
			}
		})
	}
}
