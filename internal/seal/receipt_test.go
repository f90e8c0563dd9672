package seal_test

import (
	"bytes"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// TestReceiptMAC: a receipt's code is of its key, its bytes and, for a passphrase,
// its backup, and of no manifest.
func TestReceiptMAC(t *testing.T) {
	const id = "20261122T020000Z-7f3a9c"
	mac := func(k *seal.Key, err error) *seal.ReceiptMAC {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		m, err := k.ReceiptMAC(id)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ours, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	phrase := seal.CheapPassphraseKey("correct horse")
	receipt := []byte("{}\n")
	for name, k := range map[string]*seal.Key{"age": ours, "passphrase": phrase} {
		m := mac(k, nil)
		code, err := m.Sum(receipt)
		if err != nil || len(code) != 64 || m.Check(receipt, code) != nil || mac(k, nil).Check(receipt, code) != nil {
			t.Errorf("%s: %q %v", name, code, err)
		}
		manifest, err := k.MAC(receipt)
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"other bytes":     m.Check([]byte("{} \n"), code),
			"cut":             m.Check(receipt, code[:63]),
			"a manifest's":    m.Check(receipt, manifest),
			"another key's":   mac(seal.NewKey()).Check(receipt, code),
			"another phrase":  mac(seal.CheapPassphraseKey("wrong horse"), nil).Check(receipt, code),
			"nothing":         m.Check(receipt, ""),
			"of the manifest": k.CheckMAC(receipt, code),
		} {
			if err == nil || pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	other, err := phrase.ReceiptMAC("20261122T020000Z-7f3a9d")
	if err != nil {
		t.Fatal(err)
	}
	code, _ := mac(phrase, nil).Sum(receipt)
	if other.Check(receipt, code) == nil {
		t.Error("the code of one backup's receipt is that of another's")
	}
}

// TestWorkFactor: a wrap can't ask for more memory than a command may take.
func TestWorkFactor(t *testing.T) {
	to, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(18)
	var wrap bytes.Buffer
	w, err := age.Encrypt(&wrap, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	id, err := seal.PassphraseIdentity("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenKey(wrap.Bytes(), []age.Identity{id}); pgmedic.KindOf(err) != pgmedic.KindIntegrity || err == nil {
		t.Errorf("a work factor of 18: %v", err)
	}
}
