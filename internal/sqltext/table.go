package sqltext

import "github.com/pgmedic/pgmedic"

// CountedAs is the quoted name under which a table's rows are compared: its
// topmost partitioned parent, or itself.
func CountedAs(t pgmedic.Table) string {
	if t.RootName != "" {
		return QuoteQualified(t.RootSchema, t.RootName)
	}
	return QuoteQualified(t.Schema, t.Name)
}

// ForeignKey names a foreign key in words: "visits_patient_fkey" of
// "public"."visits" to "public"."patients".
func ForeignKey(k pgmedic.ForeignKey) string {
	return QuoteIdent(k.Name) + " of " + QuoteQualified(k.Schema, k.Table) + " to " + QuoteQualified(k.ToSchema, k.ToTable)
}
