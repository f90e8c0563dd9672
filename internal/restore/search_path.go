package restore

import "github.com/pgmedic/pgmedic/internal/postgres"

// retryPath is postgres.RetryPath, or no path once others use the database: they could
// have made functions there since, which would run as the restoring role.
func (s *Session) retryPath(schema, own string) string {
	if s.live {
		return ""
	}
	return postgres.RetryPath(schema, own)
}
