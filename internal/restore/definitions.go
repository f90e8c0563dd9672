package restore

import (
	"context"

	"github.com/pgmedic/pgmedic"
)

// StageDefinitions writes the archive of definitions of a parallel backup to a new file
// at path.
func (s Source) StageDefinitions(ctx context.Context, path string) error {
	object, ok := s.Backup.Object(pgmedic.RoleSchema)
	if !ok {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no definitions")
	}
	return s.stage(ctx, object, path)
}
