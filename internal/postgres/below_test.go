package postgres_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// TestBelow: relative paths start from the folder, absolute ones and the word system stay.
func TestBelow(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"postgres://db/clinic?sslrootcert=certs/ca.pem&sslcert=../c.pem&sslkey=/etc/key.pem": {
			"sslrootcert": "/srv/app/certs/ca.pem", "sslcert": "/srv/c.pem", "sslkey": "/etc/key.pem", "host": "db", "dbname": "clinic",
		},
		"host=db sslrootcert=system passfile=pass sslcrl=crl.pem servicefile=services": {
			"sslrootcert": "system", "passfile": "/srv/app/pass", "sslcrl": "/srv/app/crl.pem", "servicefile": "/srv/app/services",
		},
	} {
		target, err := postgres.ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		for keyword, value := range want {
			if got := target.Below("/srv/app").Value(keyword); got != value {
				t.Errorf("%s: %s is %q, want %q", text, keyword, got, value)
			}
		}
		if got := target.Below("").Value("sslcrl"); got != target.Value("sslcrl") {
			t.Errorf("without a folder it became %q", got)
		}
	}
}

// TestHearing passes the codes of warnings on, and no notices.
func TestHearing(t *testing.T) {
	var heard []string
	target, _ := database(t)
	conn, err := postgres.Connect(t.Context(), target.Hearing(func(code string) { heard = append(heard, code) }))
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Close(t.Context(), conn)
	for _, sql := range []string{
		"DROP TABLE IF EXISTS no_such_table", "DO $$ BEGIN RAISE NOTICE 'n'; RAISE WARNING 'w' USING ERRCODE = '55P03'; END $$",
	} {
		if err := postgres.ExecSimple(t.Context(), conn, sql); err != nil {
			t.Fatal(err)
		}
	}
	if len(heard) != 1 || heard[0] != "55P03" {
		t.Errorf("heard %q", heard)
	}
}
