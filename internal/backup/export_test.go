package backup

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/byhand"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// IndexTables finds the tables that are to be copied in the manifest.
func IndexTables(manifest []pgmedic.Table, tables []snapshot.RowTable) (map[string]int, error) {
	return indexTables(manifest, tables)
}

// RecoverTexts returns the script and the guide that are stored with a backup.
func RecoverTexts(b *pgmedic.Backup, postQuantum bool) (script, guide string, err error) {
	v := newRecovery(b, postQuantum)
	if script, err = byhand.Render(recoverScriptName, recoverScript, v); err != nil {
		return "", "", err
	}
	guide, err = byhand.Render(recoverGuideName, recoverGuide, v)
	return script, guide, err
}
