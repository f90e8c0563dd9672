package databases_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func TestPower(t *testing.T) {
	p := databases.Power{Role: "night nurse", Owner: "clinic", Creates: true, Owns: true}
	if err := p.Refuse(); err != nil {
		t.Error(err)
	}
	p.Owns = false
	fixture.WantKind(t, p.Refuse(), pgmedic.KindUnreachable, `role "night nurse" is not a member of "clinic"`)
	p.Creates = false
	fixture.WantKind(t, p.Refuse(), pgmedic.KindUnreachable, `role "night nurse" may neither make nor rename databases`)
}
