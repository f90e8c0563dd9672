package main

import (
	"reflect"
	"testing"

	"github.com/pgmedic/pgmedic/internal/schematest"
)

// TestSchemas holds the schemas of what the program prints to its types.
func TestSchemas(t *testing.T) {
	for _, s := range []schematest.Schema{
		{
			File: "list.schema.json", Title: "pgmedic list", Type: reflect.TypeFor[listResult](),
			Description: "The output of pgmedic list --json. Readers should ignore fields that they don't know: later versions add some. See docs/operations.md.",
		},
		{
			File: "error.schema.json", Title: "pgmedic error", Type: reflect.TypeFor[jsonError](),
			Description: "The last line of standard error of a command with --json that fails. Readers should ignore fields that they don't know: later versions add some. See docs/exit-codes.md.",
		},
	} {
		schematest.Hold(t, s, *update)
	}
}
