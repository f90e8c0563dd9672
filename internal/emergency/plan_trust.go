package emergency

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/words"
)

// newest is the id of the newest backup, or the word for one.
func (p *planner) newest() string {
	for _, b := range p.Backups {
		if p.usable(b) {
			return b.ID
		}
	}
	return wordBackup
}

func keyLost(p *planner) {
	p.say("Delete nothing", "Not in `keys/` of the store, and no old disk, note or mail: a key is one line that begins with AGE-SECRET-KEY-. Don't run `pgmedic init` over the old files. The database still has the data.")
	id := p.newest()
	if p.Keys.Opens {
		p.say("Make sure that it is lost", fmt.Sprintf("This host has %s, and one of them opens the newest backup. If the key was stolen, not lost: `pgmedic emergency ransomware`, its last steps.", words.Plural(p.Keys.Count, "key")))
	}
	p.pgmedic("See which keys open the newest backup", "This needs no key. Search the safe, the password manager, the host that drills.", usesStore, "keys", "list", id)
	const after = "Copy the new file to two safe places, put its public key into backup.recipients of pgmedic.yaml, beside a second one, and take the lost one out."
	proof := "PGMEDIC_IDENTITY_FILES=" + wordNewKey + " pgmedic " + quoteAll(p.with([]string{"drill", "latest"}, p.Store, p.Named))
	p.shell("If you found one: make a new key that opens every backup, too", "It is refused if the key that you found opens none. The next `pgmedic copy --all` brings the new one to the copies.",
		"PGMEDIC_IDENTITY_FILES="+wordKeyFile+" pgmedic "+quoteAll(p.with([]string{"keys", "add", "--all", "--new", wordNewKey}, p.Store)))
	p.shell("If you found one: prove the newest backup with the new key", after, proof)
	p.shell("If there is none: back up now, with a new key", "The old backups are lost, and no one can recover them.",
		"pgmedic "+quoteAll(p.with([]string{"backup", "--new-key", wordNewKey}, p.Connection, p.Store, p.Named)))
	p.shell("If there is none: prove it", after, proof)
}

// with are arguments with flags of this run.
func (p *planner) with(args []string, flags ...[]string) []string {
	all := append([]string(nil), args...)
	for _, more := range append(flags, p.Global) {
		all = append(all, more...)
	}
	return all
}

func ransomware(p *planner) {
	p.say("Trust nothing that the hosts wrote since the break-in", "Not the database host, the backup host or the store. Type no passwords and bring no keys there. Don't switch them off before somebody said whether to keep their memory. Don't pay before you have checked the copies.")
	p.say("Take a clean machine", "A fresh pgmedic, no configuration of the old hosts, the key from the safe, and a copy that the attacker could not write to: a disk in the safe, or a bucket with object lock. "+p.storeWords())
	env := "PGMEDIC_IDENTITY_FILES=" + wordKeyFile + " pgmedic "
	id, why := wordBackup, "Choose the newest from before the break-in. `encryption none` where yours are encrypted is a forgery."
	if b, ok := p.backup(); ok && !p.When.IsZero() {
		id = b.ID
		why = "This host's list names " + id + " as the newest from before " + moment(p.When) + ". Don't rely on this list: compare it with that of the copy. `encryption none` where yours are encrypted is a forgery."
	}
	p.shell("List the copy", why, env+"list --store "+wordStore)
	p.shell("See which keys open it", "It must name your keys, and no others.", env+"keys list "+Quote(id)+" --store "+wordStore)
	p.shell("Read every byte, with the key", "`verified` is good. Exit code 11 is a changed or damaged backup: take an older one.", env+"verify "+Quote(id)+" --store "+wordStore)
	p.shell("Prove that it restores", "On the clean machine. It needs no server.", env+"drill "+Quote(id)+" --store "+wordStore)
	p.shell("Restore into a new server", "In a network that the old hosts can't reach. Then set new passwords for all roles: the backup has the hashes of the old ones. Look for roles, functions and triggers that you don't know.",
		env+"restore "+Quote(id)+" "+Quote("--into="+p.database())+" --globals --store "+wordStore+" --host "+wordHost)
	p.shell("Make a new key", "A thief can open backups that were copied already. Back up with the new key into a new store with new credentials, and keep the old store: it is evidence.", "age-keygen -o "+wordNewKey)
}

// storeWords name the configured places.
func (p *planner) storeWords() string {
	text := ""
	for i, s := range p.Stores {
		if i == 0 || s.Name == "" {
			continue
		}
		if text == "" {
			text = "Configured copies:"
		} else {
			text += ","
		}
		text += " " + words.Clean(s.Name)
	}
	if text == "" {
		return ""
	}
	return text + "."
}
