package schematest_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/schematest"
)

// TestCheckCanFail gives the check documents that are not what they should be.
func TestCheckCanFail(t *testing.T) {
	const good = `{"format":1,"name":"n","by":"root","host":"h","at":"2026-11-28T00:00:00Z","reason":"r"}`
	if problems, err := schematest.Problems("hold.schema.json", []byte(good)); err != nil || len(problems) > 0 {
		t.Fatalf("%q, %v", problems, err)
	}
	const receipt = `{"format":1,"kind":"verify","backup_id":"x","at":"2026-11-28T00:00:00Z","host":"h","programs":{"pgmedic":"1"},"outcome":"ok","proof":"intact","checks":[%],"steps":[]}`
	for name, test := range map[string]struct{ file, document, want string }{
		"missing":       {"hold.schema.json", strings.Replace(good, `"by":"root",`, "", 1), "$.by: missing"},
		"unknown":       {"hold.schema.json", strings.Replace(good, `"by"`, `"why":1,"by"`, 1), "$.why: not in the schema"},
		"type":          {"hold.schema.json", strings.Replace(good, `:1`, `:"1"`, 1), "$.format: 1 is not integer"},
		"no integer":    {"hold.schema.json", strings.Replace(good, `:1`, `:1.5`, 1), "$.format: 1.5 is not integer"},
		"null":          {"hold.schema.json", strings.Replace(good, `"root"`, "null", 1), "$.by: <nil> is not string"},
		"time":          {"hold.schema.json", strings.Replace(good, "T00", " 00", 1), "$.at: parsing time"},
		"enumeration":   {"receipt.schema.json", strings.Replace(strings.Replace(receipt, "%", "", 1), "verify", "look", 1), "$.kind: look is not one of"},
		"below":         {"receipt.schema.json", strings.Replace(receipt, "%", `{"name":"a"}`, 1), "$.checks[0].outcome: missing"},
		"a map's value": {"event.schema.json", `{"target":{"labels":{"env":1}}}`, "$.target.labels.env: 1 is not string"},
		"pattern":       {"manifest.schema.json", `{"id":"latest"}`, `$.id: "latest" is not as`},
	} {
		t.Run(name, func(t *testing.T) {
			problems, err := schematest.Problems(test.file, []byte(test.document))
			if all := strings.Join(problems, "\n"); err != nil || !strings.Contains(all, test.want) {
				t.Errorf("found %q, want one with %q, %v", all, test.want, err)
			}
		})
	}
}
