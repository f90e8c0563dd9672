package pgmedic

import (
	"encoding/json"
	"strings"
	"time"
)

// Story is what pgmedic writes into the comment of a database that it made or
// set aside, so that the database explains itself to anyone who lists it.
type Story struct {
	// Pgmedic is "kept" for a database that a swap set aside, "loading" for
	// one that a restore is filling, "ready" for one that is filled, was
	// compared, and waits for the swap, "dropping" for one whose DROP DATABASE
	// was begun: not every server marks such a database itself.
	Pgmedic string `json:"pgmedic"`
	// Name is what the database was called when this was written: one that
	// somebody renamed since is theirs.
	Name string `json:"name,omitempty"`
	// Of is the name that the database had, or is to have.
	Of string `json:"of"`
	// By is restore, rollback or ByRescue.
	By string `json:"by"`
	// Backup is the backup that took the database's place, or fills it.
	Backup string `json:"backup,omitempty"`
	// Since is by the server's clock.
	Since time.Time `json:"since"`
	// Refused is how many things of the backup the server did not take, of a
	// database that is ready.
	Refused int `json:"refused,omitempty"`
	// Number grows with each database that is kept of one name, so that which
	// was kept last does not depend on a clock. Zero in stories of versions that
	// did not count.
	Number int64 `json:"number,omitempty"`
	// Closed is true where the database took no connections when it was live.
	Closed bool `json:"closed,omitempty"`
	// Owner owned the database when it was live, where a swap gave it to another
	// role because the new live database has another owner; see Kept.Distrust.
	Owner string `json:"owner,omitempty"`
	// Comment is the database's own comment, given back by a rollback.
	Comment string `json:"comment,omitempty"`
	// Unmade are extensions that the database which took this one's place lacked when
	// it did, because they can be made only in a database of its name.
	Unmade []string `json:"unmade,omitempty"`
	// SafetyBackup is the id of the backup taken before the swap.
	SafetyBackup string `json:"safety_backup,omitempty"`
	// SafetySkipped is why there is none.
	SafetySkipped string `json:"safety_backup_skipped,omitempty"`
}

// The states in Story.Pgmedic.
const (
	StoryKept     = "kept"
	StoryLoading  = "loading"
	StoryReady    = "ready"
	StoryDropping = "dropping"
)

// OwnComment is what of a database's comment is its owner's: of a story the
// comment that the story keeps.
func OwnComment(comment string) string {
	var s Story
	if strings.HasPrefix(comment, storyPrefix) && json.Unmarshal([]byte(comment), &s) == nil {
		return UnescapeBytes(s.Comment)
	}
	return comment
}

// storyPrefix is how each story begins.
const storyPrefix = `{"pgmedic":`
