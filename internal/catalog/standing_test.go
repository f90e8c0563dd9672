package catalog_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/signature"
)

// testTrust is a host that has the key of all backups, or of none.
type testTrust struct {
	key    string // "" is none
	refuse bool
	costly bool
	// signers are those that are trusted, if any is.
	signers signature.Signers
	// unsigned is true where those that none of them signed are used all the same.
	unsigned bool
	opened   atomic.Int64 // several backups are opened at once
}

func (k *testTrust) RefusesUnencrypted() bool { return k.refuse }

func (k *testTrust) RefusesUnsigned() bool { return k.signers != nil && !k.unsigned }

func (k *testTrust) Signers() signature.Signers { return k.signers }

func (k *testTrust) Open(_ context.Context, _ *catalog.Catalog, _ *pgmedic.Backup, m *catalog.Manifest, costly bool) (catalog.CheckReceipt, error) {
	if k.key == "" {
		return nil, nil
	}
	if k.costly && !costly {
		return nil, catalog.ErrCostly
	}
	k.opened.Add(1)
	if err := m.Authenticate(func(data []byte, mac string) error {
		if want, _ := k.sum(data); strings.TrimSpace(mac) != want {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "", "not authentic")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return func(receipt []byte, mac string) error {
		if want, _ := k.sum(receipt); mac != want {
			return errors.New("not authentic")
		}
		return nil
	}, nil
}

func (k *testTrust) sum(data []byte) (string, error) {
	mac := hmac.New(sha256.New, []byte(k.key))
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// sealed commits an encrypted backup, the n-th since noon, by who has the key.
func (f fixture) sealed(t *testing.T, n int, key *testTrust) *pgmedic.Backup {
	t.Helper()
	b := backup(n)
	b.Seal.Encryption = "age"
	f.putObjects(t, b)
	if err := f.AddKey(t.Context(), b, "one", []byte("wrapped")); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context(), b, key.sum); err != nil {
		t.Fatal(err)
	}
	return b
}

// said is a receipt, with the minutes after noon that its writer's clock and the
// store say.
type said struct {
	kind       pgmedic.ReceiptKind
	ok         bool
	at, stored int
	forged     bool
}

func (f fixture) say(t *testing.T, b *pgmedic.Backup, s said, key *testTrust) {
	t.Helper()
	r := &pgmedic.Receipt{Format: 1, Kind: s.kind, BackupID: b.ID, At: noon.Add(time.Duration(s.at) * time.Minute), Outcome: pgmedic.OutcomeOK, Proof: pgmedic.ProofVerified}
	if s.kind == pgmedic.ReceiptDrill {
		r.Proof = pgmedic.ProofProven
	}
	if !s.ok {
		r.Outcome, r.Proof = pgmedic.OutcomeFailed, pgmedic.ProofFailed
	}
	mac := key.sum
	if s.forged {
		mac = (&testTrust{key: "another"}).sum
	}
	if err := f.AddReceipt(t.Context(), b, r, mac); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(f.file(b, "receipts/"+r.At.Format("20060102T150405")+"*-"+string(s.kind)+"*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q %v", found, err)
	}
	stored := noon.Add(time.Duration(s.stored) * time.Minute)
	if err := os.Chtimes(found[0], stored, stored); err != nil {
		t.Fatal(err)
	}
}

// TestStanding: what is known of a backup on the host that has its key, and on one
// that has not, an hour after noon.
func TestStanding(t *testing.T) {
	const drill, verify = pgmedic.ReceiptDrill, pgmedic.ReceiptVerify
	for name, test := range map[string]struct {
		receipts []said
		want     string
		claim    string // where there is no key
	}{
		"nothing":                       {nil, "taken", "taken"},
		"proven":                        {[]said{{drill, true, 1, 1, false}}, "proven", "claimed: proven"},
		"proven by a forger":            {[]said{{drill, true, 1, 1, true}}, "taken", "claimed: proven"},
		"verified, and a forger's more": {[]said{{verify, true, 1, 1, false}, {drill, true, 2, 2, true}}, "verified", "claimed: proven"},
		"failed after a drill":          {[]said{{drill, true, 1, 1, false}, {verify, false, 2, 2, false}}, "failed", "claimed: failed"},
		"mended":                        {[]said{{verify, false, 1, 1, false}, {drill, true, 2, 2, false}}, "proven", "claimed: proven"},
		"mended by a forger":            {[]said{{verify, false, 1, 1, false}, {drill, true, 2, 2, true}}, "failed", "claimed: proven"},
		"a day ahead":                   {[]said{{drill, true, 1440, 1, false}}, "taken", "taken"},
		"minutes ahead":                 {[]said{{drill, true, 64, 1, false}}, "proven", "claimed: proven"},
		"ahead, then failed":            {[]said{{drill, true, 1440, 1, false}, {verify, false, 2, 2, false}}, "failed", "claimed: failed"},
		"ahead by less than is seen, then failed": {[]said{{drill, true, 64, 1, false}, {verify, false, 2, 2, false}}, "failed", "claimed: failed"},
		"a failure ahead":                         {[]said{{verify, false, 1440, 1, false}}, "failed", "claimed: failed"},
		"a failure ahead, mended":                 {[]said{{verify, false, 1440, 1, false}, {drill, true, 2, 2, false}}, "proven", "claimed: proven"},
		"a failure ahead, after a drill":          {[]said{{drill, true, 1, 1, false}, {verify, false, 1440, 2, false}}, "failed", "claimed: failed"},
		"the store disagrees":                     {[]said{{verify, false, 1, 3, false}, {drill, true, 2, 2, false}}, "failed", "claimed: failed"},
		"the clock disagrees":                     {[]said{{verify, false, 3, 1, false}, {drill, true, 2, 2, false}}, "failed", "claimed: failed"},
		"the store can't tell":                    {[]said{{verify, false, 1, 2, false}, {drill, true, 2, 2, false}}, "failed", "claimed: failed"},
		"damage found without the key":            {[]said{{drill, true, 1, 1, false}, {verify, false, 2, 2, true}}, "claimed: failed", "claimed: failed"},
		"a verification after a drill":            {[]said{{drill, false, 1, 1, false}, {verify, true, 2, 2, false}}, "failed", "claimed: failed"},
	} {
		t.Run(name, func(t *testing.T) {
			f, key := newFixture(t), &testTrust{key: "k"}
			b := f.sealed(t, 1, key)
			for _, s := range test.receipts {
				f.say(t, b, s, key)
			}
			for trust, want := range map[*testTrust]string{key: test.want, {}: test.claim} {
				filter := catalog.Filter{Now: noon.Add(time.Hour), Trust: trust}
				got, err := f.Get(t.Context(), b.ID, filter)
				if err != nil {
					t.Fatal(err)
				}
				listed := f.list(t, filter).Entries[0]
				if one, all := words(got), words(listed); one != want || all != want {
					t.Errorf("key %q: by id %s, listed %s, want %s", trust.key, one, all, want)
				}
			}
		})
	}
}

func words(e catalog.Entry) string {
	s := e.Standing()
	if s.Claimed {
		return "claimed: " + string(s.Proof)
	}
	return string(s.Proof)
}

// TestForgedManifestIsDamaged: a host with the key lists an edited manifest as
// damaged, with whatever hash.
func TestForgedManifestIsDamaged(t *testing.T) {
	f, key := newFixture(t), &testTrust{key: "k"}
	sound, b := f.sealed(t, 1, key), f.sealed(t, 2, key)
	b.Database.Owner = "mallory"
	f.rewrite(t, b, marshal(t, b))
	l := f.list(t, catalog.Filter{Trust: key})
	if ids(l) != sound.ID || len(l.Damaged) != 1 || l.Damaged[0].ID != b.ID {
		t.Errorf("listed %s, damaged %+v", ids(l), l.Damaged)
	}
	if l := f.list(t, catalog.Filter{Trust: &testTrust{}}); len(l.Entries) != 2 {
		t.Errorf("without a key: %+v", l)
	}
}

// TestCostlyTrust: what takes long is done for a few.
func TestCostlyTrust(t *testing.T) {
	f, key := newFixture(t), &testTrust{key: "k", costly: true}
	for n := range 8 {
		f.say(t, f.sealed(t, n, key), said{pgmedic.ReceiptDrill, true, 20, 20, false}, key)
	}
	l := f.list(t, catalog.Filter{Now: noon.Add(time.Hour), Trust: key})
	claims := 0
	for i, e := range l.Entries {
		if e.Standing().Claimed {
			claims++
		} else if i > 3 {
			t.Errorf("the newest come first, not %d", i)
		}
	}
	if claims != 4 || key.opened.Load() != 4 || l.Costly() != 4 {
		t.Errorf("%d claims, %d opened, %d said to be costly", claims, key.opened.Load(), l.Costly())
	}
	if e, err := f.Get(t.Context(), l.Entries[7].Backup.ID, catalog.Filter{Trust: key}); err != nil || words(e) != "proven" {
		t.Errorf("%s %v", words(e), err)
	}
}

// TestUnencryptedIsIntactAtMost where the host refuses such backups.
func TestUnencryptedIsIntactAtMost(t *testing.T) {
	f := newFixture(t)
	b := f.commit(t, backup(1))
	f.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptDrill, 1)
	for refuse, want := range map[bool]string{true: "intact", false: "proven"} {
		e, err := f.Get(t.Context(), b.ID, catalog.Filter{Trust: &testTrust{key: "k", refuse: refuse}})
		if _, drilled := e.LastDrill(); err != nil || words(e) != want || drilled == refuse {
			t.Errorf("%s %v %v", words(e), drilled, err)
		}
	}
	f.receipt(t, b, pgmedic.OutcomeFailed, pgmedic.ReceiptVerify, 2)
	if e, _ := f.Get(t.Context(), b.ID, catalog.Filter{Trust: &testTrust{refuse: true}}); words(e) != "failed" {
		t.Errorf("%s after a failure", words(e))
	}
}

// TestReceiptsThatSayTooMuch: a receipt proves no more than its kind can.
func TestReceiptsThatSayTooMuch(t *testing.T) {
	f := newFixture(t)
	b := f.commit(t, backup(1))
	for name, text := range map[string]string{
		"1": `"kind":"verify","outcome":"ok","proof":"proven"`,
		"2": `"kind":"verify","outcome":"ok","proof":"sure"`,
		"3": `"kind":"audit","outcome":"ok","proof":"proven"`,
		"4": `"kind":"drill","outcome":"ok","proof":"proven","checks":[{"name":"restores","outcome":"failed"}]`,
		"5": `"kind":"drill","outcome":"warn","proof":"proven"`,
		"6": `"kind":"drill","outcome":"ok","proof":"proven","checks":[` + strings.Repeat("{},", 300_000) + `{}]`,
		"7": `"kind":"drill","outcome":"ok","proof":"proven","host":"` + strings.Repeat("x", 9<<20) + `"`,
	} {
		f.put(t, catalog.Key(b, "receipts/"+name+".json"), `{"format":1,"at":"2026-11-22T13:00:00Z","backup_id":"`+b.ID+`",`+text+`}`)
	}
	f.put(t, catalog.Key(b, "receipts/deeper/1.json"), `{"format":1,"at":"2026-11-22T13:00:00Z","backup_id":"`+b.ID+`","kind":"drill","outcome":"ok","proof":"proven"}`)
	e, err := f.Get(t.Context(), b.ID, catalog.Filter{})
	if err != nil || len(e.Receipts) != 0 || words(e) != "taken" {
		t.Errorf("%d receipts, %s, %v", len(e.Receipts), words(e), err)
	}
}

// TestSummaryIsNoManifest: what a listing returns can't be taken for the whole.
func TestSummaryIsNoManifest(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	e := f.list(t, catalog.Filter{}).Entries[0]
	if err := e.Backup.Check(); err == nil {
		t.Error("a summary passes for a manifest")
	}
	whole, err := f.Whole(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(whole)
	if want, _ := json.Marshal(b); string(got) != string(want) {
		t.Errorf("whole is %s\nwant %s", got, want)
	}
	overwrite(t, f.file(b, "manifest.json"), func(d []byte) []byte { return append(d, ' ') })
	if _, err := f.Manifest(t.Context(), whole); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		t.Errorf("a manifest that changed meanwhile: %v", err)
	}
}

// TestTooManyKeys: however many others there are, the keys that are asked for come
// first, and what can't be one comes without data.
func TestTooManyKeys(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	for i := range 400 {
		f.put(t, catalog.Key(b, "keys/a"+strings.Repeat("a", i%200)+string(rune('a'+i/200))+".age"), "odd")
	}
	f.put(t, catalog.Key(b, "keys/big.age"), strings.Repeat("x", 70<<10))
	f.put(t, catalog.Key(b, "keys/deeper/one.age"), "odd")
	wraps, err := f.Keys(t.Context(), b, "two", "big")
	if err != nil || len(wraps) != 403 || wraps[0].Name != "two" || string(wraps[0].Data) != "wrapped for two" {
		t.Fatalf("%d, first %+v: %v", len(wraps), wraps[0], err)
	}
	if wraps[1].Data != nil || wraps[1].Odd == "" {
		t.Errorf("a file of 70 KiB is %+v", wraps[1])
	}
	read := 0
	for _, w := range wraps {
		if w.Data != nil {
			read++
		}
	}
	if read > 256 {
		t.Errorf("%d were read", read)
	}
}
