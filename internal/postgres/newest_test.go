package postgres_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

func TestNewerThanKnown(t *testing.T) {
	for version, want := range map[int]string{
		0: "", 120000: "", postgres.NewestMajor*10000 + 99: "",
		190000: "PostgreSQL 19 is newer than this version of pgmedic knows, which is made for 12 to 18",
	} {
		if got := postgres.NewerThanKnown(version); got != want {
			t.Errorf("%d: %q, want %q", version, got, want)
		}
	}
}
