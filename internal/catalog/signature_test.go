package catalog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

func signer(t *testing.T) *signature.Key {
	t.Helper()
	key, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signed commits a backup that these keys sign.
func (f fixture) signed(t *testing.T, n int, keys ...*signature.Key) *pgmedic.Backup {
	t.Helper()
	b := backup(n)
	f.putObjects(t, b)
	if err := f.Commit(t.Context(), b, nil, keys...); err != nil {
		t.Fatal(err)
	}
	return b
}

// signing is what is known of who signed a backup, by the listing and by itself.
func (f fixture) signing(t *testing.T, b *pgmedic.Backup, trusted signature.Signers) signature.Signing {
	t.Helper()
	m, err := f.Manifest(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Signing(t.Context(), trusted)
	if err != nil {
		t.Fatal(err)
	}
	listing, err := f.List(t.Context(), catalog.Filter{Trust: &testTrust{signers: trusted}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range listing.Entries {
		if e.Backup.ID == b.ID && e.Signing != s {
			t.Errorf("the listing says %+v, and the backup alone %+v", e.Signing, s)
		}
	}
	return s
}

// TestSigning: only a trusted key's signature of these very bytes counts, and one such
// is enough, whatever lies beside it.
func TestSigning(t *testing.T) {
	f := newFixture(t)
	key, other := signer(t), signer(t)
	trusted := signature.Signers{key.Public()}
	name := func(id string) string { return "signatures/" + id + ".minisig" }
	good, unsigned, foreign, replayed := f.signed(t, 1, key), f.signed(t, 2), f.signed(t, 3, other), f.signed(t, 4)
	both, edited, large, renamed := f.signed(t, 5, other, key), f.signed(t, 6, key), f.signed(t, 7), f.signed(t, 8, other)
	take := func(b *pgmedic.Backup, name string) string {
		data, err := os.ReadFile(f.file(b, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	f.put(t, catalog.Key(replayed, name(key.ID())), take(good, name(key.ID())))
	f.put(t, catalog.Key(both, "signatures/"+key.ID()+"-2.minisig"), "not a signature")
	overwrite(t, f.file(edited, name(key.ID())), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	f.put(t, catalog.Key(large, name(key.ID())), strings.Repeat("x", 1<<20))
	f.put(t, catalog.Key(renamed, name(key.ID())), take(renamed, name(other.ID())))
	for what, test := range map[string]struct {
		b    *pgmedic.Backup
		want signature.Signing
	}{
		"signed":               {good, signature.Signing{State: signature.Trusted, Signer: key.ID(), Stored: 1}},
		"unsigned":             {unsigned, signature.Signing{State: signature.None}},
		"by another key":       {foreign, signature.Signing{State: signature.Untrusted, Stored: 1}},
		"of another backup":    {replayed, signature.Signing{State: signature.Invalid, Signer: key.ID(), Stored: 1}},
		"of several":           {both, signature.Signing{State: signature.Trusted, Signer: key.ID(), Stored: 3}},
		"damaged":              {edited, signature.Signing{State: signature.Invalid, Signer: key.ID(), Stored: 1}},
		"too large":            {large, signature.Signing{State: signature.Invalid, Signer: key.ID(), Stored: 1}},
		"under another's name": {renamed, signature.Signing{State: signature.Invalid, Signer: key.ID(), Stored: 2}},
	} {
		if got := f.signing(t, test.b, trusted); got != test.want {
			t.Errorf("%s: %+v, not %+v", what, got, test.want)
		}
	}
	if got := f.signing(t, good, nil); got != (signature.Signing{State: signature.NotChecked, Stored: 1}) {
		t.Errorf("nobody trusted: %+v", got)
	}
	if got := f.signing(t, good, signature.Signers{}); got.State != signature.Untrusted {
		t.Errorf("an empty list of trusted signers: %+v", got)
	}
	overwrite(t, f.file(good, "manifest.json"), func(b []byte) []byte { return append(b, ' ') })
	overwrite(t, f.file(good, "manifest.json.sha256"), func([]byte) []byte { return []byte(sumOf(take(good, "manifest.json")) + "  manifest.json\n") })
	e, err := f.Get(t.Context(), good.ID, catalog.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.signing(t, e.Backup, trusted); got.State != signature.Invalid {
		t.Errorf("an edited manifest: %+v", got)
	}
}

// TestUnsignedProvesNothing: whoever forges a whole backup has its key, and so can
// authenticate receipts of it. Without a trusted signature they prove nothing, and with
// one that does not fit they prove nothing even where unsigned backups are allowed.
func TestUnsignedProvesNothing(t *testing.T) {
	f := newFixture(t)
	key := signer(t)
	genuine, forged, edited := f.signed(t, 1, key), f.signed(t, 2, signer(t)), f.signed(t, 3)
	name := "signatures/" + key.ID() + ".minisig"
	other, err := os.ReadFile(f.file(genuine, name))
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, catalog.Key(edited, name), string(other))
	for _, b := range []*pgmedic.Backup{genuine, forged, edited} {
		f.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptDrill, 3)
	}
	trusted := signature.Signers{key.Public()}
	for name, test := range map[string]struct {
		trust *testTrust
		want  []pgmedic.Proof // of the edited, the forged and the genuine one
	}{
		"nobody trusted":   {&testTrust{}, []pgmedic.Proof{pgmedic.ProofProven, pgmedic.ProofProven, pgmedic.ProofProven}},
		"one trusted":      {&testTrust{signers: trusted}, []pgmedic.Proof{pgmedic.ProofIntact, pgmedic.ProofIntact, pgmedic.ProofProven}},
		"unsigned allowed": {&testTrust{signers: trusted, unsigned: true}, []pgmedic.Proof{pgmedic.ProofIntact, pgmedic.ProofProven, pgmedic.ProofProven}},
	} {
		listing, err := f.List(t.Context(), catalog.Filter{Trust: test.trust})
		if err != nil || len(listing.Entries) != len(test.want) {
			t.Fatal(listing, err)
		}
		for i, want := range test.want {
			e := listing.Entries[i]
			_, drilled := e.LastDrill()
			if got := e.Standing().Proof; got != want || e.Refused() != (want == pgmedic.ProofIntact) || drilled == e.Refused() || e.Whoever().Proof != pgmedic.ProofProven {
				t.Errorf("%s: backup %d is %s, refused %t", name, i, got, e.Refused())
			}
		}
	}
}

// TestSign: a signature is added beside what is there, which is never overwritten, and
// what lies in its way does not keep it out.
func TestSign(t *testing.T) {
	f := newFixture(t)
	key := signer(t)
	trusted := signature.Signers{key.Public()}
	b := f.signed(t, 1)
	m, err := f.Manifest(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, catalog.Key(b, "signatures/"+key.ID()+".minisig"), "in the way")
	for _, want := range []bool{true, false} {
		if added, err := m.Add(t.Context(), key); err != nil || added != want {
			t.Fatalf("added %v, %v; want %v", added, err, want)
		}
	}
	if got := f.signing(t, b, trusted); got.State != signature.Trusted || got.Stored != 2 {
		t.Errorf("%+v", got)
	}
	full := f.signed(t, 2)
	if m, err = f.Manifest(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-2", "-3", "-4"} {
		f.put(t, catalog.Key(full, "signatures/"+key.ID()+suffix+".minisig"), "in the way")
	}
	if _, err := m.Add(t.Context(), key); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("%v", err)
	}
}

// TestCopySignatures: signatures go along, also to a copy that is there without them,
// and what is large or has a strange name stays behind.
func TestCopySignatures(t *testing.T) {
	f, key := newFixture(t), signer(t)
	trusted := signature.Signers{key.Public()}
	b := f.packed(t, 1)
	to := newFixture(t)
	copyTo := func() {
		t.Helper()
		if _, err := f.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: b}); err != nil {
			t.Fatal(err)
		}
	}
	copyTo()
	m, err := f.Manifest(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Add(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	f.put(t, catalog.Key(b, "signatures/0123456789ABCDEF.minisig"), strings.Repeat("x", 1<<20))
	f.put(t, catalog.Key(b, "signatures/notes.txt"), "somebody else's")
	copyTo()
	names, err := filepath.Glob(to.file(b, "signatures/*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != key.ID()+".minisig" {
		t.Errorf("copied %v, %v", names, err)
	}
	if got := to.signing(t, b, trusted); got.State != signature.Trusted {
		t.Errorf("the copy: %+v", got)
	}
	copyTo() // nothing is overwritten
	fresh, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fresh.Close() })
	if _, err := to.CopyTo(t.Context(), catalog.CopyOptions{To: catalog.New(fresh), Backup: b}); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Stat(t.Context(), catalog.Key(b, fmt.Sprintf("signatures/%s.minisig", key.ID()))); err != nil {
		t.Error(err)
	}
}

// TestCopySignaturesCrowded: files of others beside the manifest, here or there, don't
// keep a signature out of a copy, and what was not copied is an error.
func TestCopySignaturesCrowded(t *testing.T) {
	key := signer(t)
	trusted := signature.Signers{key.Public()}
	name := func(suffix string) string { return "signatures/" + key.ID() + suffix + ".minisig" }
	for what, test := range map[string]struct {
		trusted signature.Signers
		// here and there are files that are in the way.
		here, there []string
		junk        int
		kind        pgmedic.Kind
		want        signature.State
	}{
		"many here":                {trusted, nil, nil, 65, pgmedic.KindIntegrity, signature.Trusted},
		"many here, nobody known":  {nil, nil, nil, 65, pgmedic.KindIntegrity, signature.Untrusted},
		"as many as are copied":    {nil, nil, nil, 63, 0, signature.Trusted},
		"in the way here":          {trusted, []string{"", "-2", "-3"}, nil, 0, 0, signature.Trusted},
		"in the way there":         {trusted, nil, []string{"", "-3"}, 0, 0, signature.Trusted},
		"there, nobody known":      {nil, nil, []string{"", "-2"}, 0, 0, signature.Trusted},
		"no room there":            {trusted, nil, []string{"", "-2", "-3", "-4"}, 0, pgmedic.KindConflict, signature.Invalid},
		"no room, nobody known":    {nil, nil, []string{"", "-2", "-3", "-4"}, 0, pgmedic.KindConflict, signature.Invalid},
		"no room, and many others": {trusted, nil, []string{"", "-2", "-3", "-4"}, 65, pgmedic.KindConflict, signature.Invalid},
	} {
		t.Run(what, func(t *testing.T) {
			f, to := newFixture(t), newFixture(t)
			b := f.packed(t, 1)
			for _, suffix := range test.here {
				f.put(t, catalog.Key(b, name(suffix)), "in the way")
			}
			for n := range test.junk { // listed before a signature, or else after it
				f.put(t, catalog.Key(b, fmt.Sprintf("signatures/%016X.minisig", n)), "not a signature")
			}
			m, err := f.Manifest(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if added, err := m.Add(t.Context(), key); err != nil || !added {
				t.Fatal(added, err)
			}
			for _, suffix := range test.there {
				to.put(t, catalog.Key(b, name(suffix)), "in the way there")
			}
			for range 2 { // a second run finds no other
				_, err = f.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: b, Trusted: test.trusted})
				if (test.kind == 0) != (err == nil) || err != nil && pgmedic.KindOf(err) != test.kind {
					t.Errorf("%v, want kind %v", err, test.kind)
				}
			}
			if got := to.signing(t, b, trusted); got.State != test.want {
				t.Errorf("the copy is %+v, want %s", got, test.want)
			}
		})
	}
}

// TestSignatureBeforeManifest: a backup that is listed has its signature.
func TestSignatureBeforeManifest(t *testing.T) {
	f, key := newFixture(t), signer(t)
	b := backup(1)
	f.putObjects(t, b)
	err := catalog.New(failing{f.Store(), "manifest.json"}).Commit(t.Context(), b, nil, key)
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Fatal(err)
	}
	if _, err := f.Store().Stat(t.Context(), catalog.Key(b, "signatures/"+key.ID()+".minisig")); err != nil {
		t.Error(err)
	}
	b = backup(2)
	f.putObjects(t, b)
	if err := catalog.New(failing{f.Store(), "signatures/" + key.ID() + ".minisig"}).Commit(t.Context(), b, nil, key); err == nil {
		t.Error("a backup was committed without its signature")
	}
	if there, err := f.Exists(t.Context(), b); err != nil || there {
		t.Errorf("it exists: %v, %v", there, err)
	}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
