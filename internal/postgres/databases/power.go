package databases

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Power is what a role may do to a database.
type Power struct {
	// Role is the role's name, and Owner that of the role which owns the database.
	Role, Owner string
	// Creates is true where the role may make and rename databases, and Owns where it
	// is Owner, or a member of it.
	Creates, Owns bool
}

// Refuse returns an error of KindUnreachable where the role may not make or rename
// databases, or is not a member of the owner.
func (p Power) Refuse() error {
	switch {
	case !p.Creates:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "ALTER ROLE "+sqltext.QuoteIdent(p.Role)+" CREATEDB; (`pgmedic init --roles-only` prints all that a restore takes)",
			"role %s may neither make nor rename databases", sqltext.QuoteIdent(p.Role))
	case !p.Owns:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "GRANT "+sqltext.QuoteIdent(p.Owner)+" TO "+sqltext.QuoteIdent(p.Role)+";",
			"role %s is not a member of %s, which owns the database", sqltext.QuoteIdent(p.Role), sqltext.QuoteIdent(p.Owner))
	}
	return nil
}
