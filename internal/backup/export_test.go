package backup

import "github.com/pgmedic/pgmedic"

// RecoverTexts returns the script and the guide that are stored with a backup.
func RecoverTexts(b *pgmedic.Backup, postQuantum bool) (script, guide string, err error) {
	v := newRecovery(b, postQuantum)
	if script, err = v.render(recoverScriptName, recoverScript); err != nil {
		return "", "", err
	}
	guide, err = v.render(recoverGuideName, recoverGuide)
	return script, guide, err
}
