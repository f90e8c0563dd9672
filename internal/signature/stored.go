package signature

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// folderName is where signatures are, below the backup's folder.
	folderName = "signatures"
	// MaxBytes is what a signature may have; minisign's have some 300 bytes. What is
	// larger is not one, whatever its name.
	MaxBytes = 4 << 10
	// maxOfKey is how many of one key are read, and maxCopied how many of a backup are
	// copied: anyone who can write to the store can add such files.
	maxOfKey  = 4
	maxCopied = 64
)

// fileName matches the name of a signature within the backup's folder. It begins with
// the id of the key that made it.
var fileName = regexp.MustCompile(`^signatures/([0-9A-F]{16})(?:-([2-9]))?\.minisig$`)

// IsName reports whether an object's name within the backup's folder is that of a
// signature.
func IsName(name string) bool { return fileName.MatchString(name) }

// nameOf is the name of the n-th signature of a key, from 1.
func nameOf(id string, n int) string {
	suffix := ""
	if n > 1 {
		suffix = "-" + strconv.Itoa(n)
	}
	return folderName + "/" + id + suffix + ".minisig"
}

// State says whether somebody who is trusted signed a manifest.
type State string

// What is known of who signed a manifest.
const (
	// NotChecked means that this host trusts no signers, or was not asked.
	NotChecked State = "not-checked"
	// Trusted means that a trusted signer signed these very bytes.
	Trusted State = "signed"
	// None means that there is no signature.
	None State = "unsigned"
	// Untrusted means that there are only signatures of keys that are not trusted, or
	// that say that they are.
	Untrusted State = "untrusted"
	// Invalid means that a signature that names a trusted key is not one of it over this
	// manifest: it is another backup's, or one of the two was changed.
	Invalid State = "invalid"
)

// Signing says who signed a backup's manifest.
type Signing struct {
	State State `json:"state"`
	// Signer is the id of the trusted key that signed, or that an invalid signature
	// names.
	Signer string `json:"signer,omitempty"`
	// Stored counts the signatures beside the manifest, of every signer.
	Stored int `json:"stored"`
}

// Manifest is a manifest as it is stored, by whose folder its signatures are found.
type Manifest struct {
	Store store.Store
	// Folder is the backup's, ID its id, Data the manifest's bytes.
	Folder, ID string
	Data       []byte
}

// Signing says who of the signers signed the manifest. One signature that fits is
// enough, whatever lies beside it. With nil nothing is checked.
func (m Manifest) Signing(ctx context.Context, by Signers) (Signing, error) {
	stored := 0
	for object, err := range m.Store.List(ctx, m.Folder+"/"+folderName+"/") {
		if err != nil {
			return Signing{}, fmt.Errorf("list the signatures of backup %s: %w", m.ID, err)
		}
		if IsName(strings.TrimPrefix(object.Key, m.Folder+"/")) {
			stored++
		}
	}
	return m.SigningOf(ctx, stored, by)
}

// SigningOf is Signing where it is known how many signatures there are.
func (m Manifest) SigningOf(ctx context.Context, stored int, by Signers) (Signing, error) {
	s := Signing{State: NotChecked, Stored: stored}
	if by == nil {
		return s, nil
	}
	s.State = None
	if stored > 0 {
		s.State = Untrusted
	}
	for _, id := range by.IDs() {
		for n := 1; n <= maxOfKey && stored > 0; n++ {
			data, err := m.read(ctx, nameOf(id, n))
			switch {
			case errors.Is(err, store.ErrNotFound):
				continue
			case err != nil:
				return Signing{}, fmt.Errorf("read a signature of backup %s: %w", m.ID, err)
			case by.Verifies(m.Data, data):
				return Signing{State: Trusted, Signer: id, Stored: stored}, nil
			}
			s.State, s.Signer = Invalid, id
		}
	}
	return s, nil
}

// read reads a signature. Of what is too large to be one there is nothing.
func (m Manifest) read(ctx context.Context, name string) ([]byte, error) {
	r, err := m.Store.Open(ctx, m.Folder+"/"+name, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err = errors.Join(err, r.Close()); err != nil || len(data) > MaxBytes {
		return nil, err
	}
	return data, nil
}

// comment is what is signed beside the manifest, for people. The manifest names its
// backup itself.
func (m Manifest) comment() string { return "manifest of pgmedic backup " + m.ID }

// Put stores the signature of a manifest that is about to be stored.
func (m Manifest) Put(ctx context.Context, by *Key) error {
	data, err := by.Sign(ctx, m.Data, m.comment())
	if err != nil {
		return fmt.Errorf("sign the manifest: %w", err)
	}
	if _, err := m.Store.Put(ctx, m.Folder+"/"+nameOf(by.ID(), 1), bytes.NewReader(data)); err != nil {
		return fmt.Errorf("store the manifest's signature: %w", err)
	}
	return nil
}

// Add adds a signature to a backup that is there, and reports whether it did: a
// signature of the same key that fits is left as it is, and the key is not used. What lies
// in the way of the signature is not overwritten; where too much does the error is of
// KindConflict. Where the key can't sign it is a SignError.
func (m Manifest) Add(ctx context.Context, by *Key) (added bool, err error) {
	own := Signers{by.Public()}
	fits := func(there []byte) bool { return own.Verifies(m.Data, there) }
	if there, err := m.fitting(ctx, by.ID(), fits); err != nil || there != nil {
		return false, err
	}
	data, err := by.Sign(ctx, m.Data, m.comment())
	if err != nil {
		return false, fmt.Errorf("sign backup %s: %w", m.ID, err)
	}
	return m.place(ctx, placement{
		id: by.ID(), data: data, serves: fits,
		put: func(name string, data []byte) error {
			_, err := m.Store.Put(ctx, m.Folder+"/"+name, bytes.NewReader(data))
			return err
		},
	})
}

// placement is a signature that is to be stored.
type placement struct {
	// id is that of the key that the signature names.
	id   string
	data []byte
	// serves reports whether one that is there makes this one unnecessary.
	serves func(there []byte) bool
	// put stores a file of the backup's folder. Where there is one the error is
	// store.ErrExists.
	put func(name string, data []byte) error
}

// place stores a signature under the first of its key's names that is free, and reports
// whether it did, or whether one that serves is there.
func (m Manifest) place(ctx context.Context, p placement) (placed bool, err error) {
	for n := 1; n <= maxOfKey; n++ {
		err := p.put(nameOf(p.id, n), p.data)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return false, fmt.Errorf("store the signature of backup %s: %w", m.ID, err)
		}
		there, err := m.read(ctx, nameOf(p.id, n))
		if err != nil {
			return false, fmt.Errorf("read the signature of backup %s that is there: %w", m.ID, err)
		}
		if p.serves(there) {
			return false, nil
		}
	}
	return false, pgmedic.Errorf(pgmedic.KindConflict, "find out who can write to the store, and remove the files that begin with signatures/"+p.id,
		"backup %s has %d signatures in %s already that name key %s and do not fit", m.ID, maxOfKey, m.Store, p.id)
}

// CopyOptions say where signatures are copied. Required: To, Put.
type CopyOptions struct {
	// To is the store that the backup is copied into.
	To store.Store
	// Trusted are the signers that this host believes, or nil. What fits of theirs is
	// copied first, and what does not fit is left behind.
	Trusted Signers
	// Put stores a file of the backup's folder in To. Where there is one it returns
	// store.ErrExists.
	Put func(name string, data []byte) error
}

// Copy copies the signatures of a manifest that the copy has not. What lies in their
// way is not overwritten. An error of KindConflict means that too much does, and one of
// KindIntegrity that there are more signatures than are copied; those of trusted signers
// are there in this case.
func (m Manifest) Copy(ctx context.Context, o CopyOptions) error {
	to := Manifest{Store: o.To, Folder: m.Folder, ID: m.ID, Data: m.Data}
	fits := func(signature []byte) bool { return o.Trusted.Verifies(m.Data, signature) }
	trusted := o.Trusted.IDs()
	var problem error
	for _, id := range trusted {
		data, err := m.fitting(ctx, id, fits)
		if err != nil {
			return err
		}
		if data != nil {
			_, err = to.place(ctx, placement{id: id, data: data, serves: fits, put: o.Put})
		}
		if pgmedic.KindOf(err) == pgmedic.KindConflict {
			problem = errors.Join(problem, err)
		} else if err != nil {
			return err
		}
	}
	n := 0
	for object, err := range m.Store.List(ctx, m.Folder+"/"+folderName+"/") {
		if err != nil {
			return fmt.Errorf("list the signatures of backup %s: %w", m.ID, err)
		}
		name := strings.TrimPrefix(object.Key, m.Folder+"/")
		parts := fileName.FindStringSubmatch(name)
		if parts == nil || object.SizeBytes > MaxBytes || slices.Contains(trusted, parts[1]) {
			continue
		}
		if n++; n > maxCopied {
			return errors.Join(problem, pgmedic.Errorf(pgmedic.KindIntegrity, "find out who can write to the store, and remove what does not belong in signatures/",
				"backup %s has more than %d signatures beside its manifest: not all were copied", m.ID, maxCopied))
		}
		data, err := m.read(ctx, name)
		if errors.Is(err, store.ErrNotFound) || err == nil && data == nil {
			continue
		} else if err != nil {
			return fmt.Errorf("read a signature of backup %s: %w", m.ID, err)
		}
		_, err = to.place(ctx, placement{id: parts[1], data: data, serves: func(there []byte) bool { return bytes.Equal(there, data) }, put: o.Put})
		if pgmedic.KindOf(err) == pgmedic.KindConflict {
			problem = errors.Join(problem, err)
		} else if err != nil {
			return err
		}
	}
	return problem
}

// fitting returns the first signature that names a key and fits, or nil.
func (m Manifest) fitting(ctx context.Context, id string, fits func(signature []byte) bool) ([]byte, error) {
	for n := 1; n <= maxOfKey; n++ {
		data, err := m.read(ctx, nameOf(id, n))
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("read a signature of backup %s: %w", m.ID, err)
		case fits(data):
			return data, nil
		}
	}
	return nil, nil
}
