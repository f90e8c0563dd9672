package postgres

import "fmt"

// NewestMajor is the newest major version of PostgreSQL that this version of pgmedic was
// made for and is tested with.
const NewestMajor = 18

// NewerThanKnown says that a server is of a later major version, by its
// server_version_num; otherwise it is empty.
func NewerThanKnown(versionNum int) string {
	major := versionNum / 10000
	if major <= NewestMajor {
		return ""
	}
	return fmt.Sprintf("PostgreSQL %d is newer than this version of pgmedic knows, which is made for 12 to %d", major, NewestMajor)
}
