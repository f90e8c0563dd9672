package restore

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// compareDatabase compares what the server knows of the database outside it: locale,
// owner, settings, access list, connection limit. Its comment comes last of all, when
// the copy has been compared.
func compareDatabase(ctx context.Context, conn *pgx.Conn, o CompareOptions, versionNum int) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "database", Outcome: pgmedic.OutcomeOK, Detail: "encoding, locale and settings are as recorded"}
	have, err := postgres.ReadDatabase(ctx, conn, versionNum)
	if err != nil {
		return check, err
	}
	want := o.Backup.Database
	var wrong []string
	for _, p := range []struct{ name, want, have string }{
		{"encoding", want.Encoding, have.Encoding},
		{"collation", want.Collate, have.Collate},
		{"character type", want.CType, have.CType},
		{"locale provider", want.LocaleProvider, have.LocaleProvider},
		{"ICU locale", want.ICULocale, have.ICULocale},
		{"ICU rules", want.ICURules, have.ICURules},
	} {
		if p.want != p.have {
			wrong = append(wrong, "its "+p.name+" is another")
		}
	}
	wrong = append(wrong, differingSettings(want.Settings, have.Settings, o.RefusedSettings)...)
	if !o.Without.Owners {
		check.Detail = "encoding, locale, owner and settings are as recorded"
		if want.Owner != have.Owner {
			wrong = append(wrong, "its owner differs")
		}
	}
	switch {
	case o.Without.Owners:
	case o.Private:
		check.Detail += "; its access list and connection limit are not given to it yet"
	default:
		check.Detail = "encoding, locale, owner, settings, access list and connection limit are as recorded"
		if want.DefaultACL != have.DefaultACL || !sameGrants(want.ACL, have.ACL) {
			wrong = append(wrong, "its access list differs")
		}
		if want.ConnectionLimit != have.ConnectionLimit {
			wrong = append(wrong, "its connection limit differs")
		}
	}
	if len(wrong) > 0 {
		return *FailedCheck(check.Name, wrong), nil
	}
	return check, nil
}

// differingSettings names the settings that differ, in a stable order. What the
// server refused is reported on its own.
func differingSettings(want, have []pgmedic.Setting, refused []string) (wrong []string) {
	type key struct{ role, name string }
	values := map[key][2]string{} // wanted, had; each with a mark of being there
	for i, settings := range [][]pgmedic.Setting{want, have} {
		for _, s := range settings {
			v := values[key{s.Role, s.Name}]
			v[i] = "=" + s.Value
			values[key{s.Role, s.Name}] = v
		}
	}
	for k, v := range values {
		if v[0] == v[1] || slices.Contains(refused, k.name) {
			continue
		}
		setting := "setting " + k.name
		if k.role != "" {
			setting += " of role " + sqltext.QuoteIdent(k.role)
		}
		switch {
		case v[0] == "":
			wrong = append(wrong, setting+" is unexpected")
		case v[1] == "":
			wrong = append(wrong, setting+" is missing")
		default:
			wrong = append(wrong, setting+" has another value")
		}
	}
	slices.SortFunc(wrong, strings.Compare)
	return wrong
}

// sameGrants compares access lists, whatever their order.
func sameGrants(a, b []pgmedic.Grant) bool {
	sorted := func(grants []pgmedic.Grant) []pgmedic.Grant {
		grants = slices.Clone(grants)
		slices.SortFunc(grants, func(x, y pgmedic.Grant) int {
			return strings.Compare(x.Grantee+"\x00"+x.Privilege, y.Grantee+"\x00"+y.Privilege)
		})
		return slices.Compact(grants)
	}
	return slices.Equal(sorted(a), sorted(b))
}
