package seal

// TestRounds is enough for a test to tell keys apart.
const TestRounds = 10

// CheapPassphraseKey is PassphraseKey at a cost that a test can pay a thousand times.
func CheapPassphraseKey(text string) *Key {
	return &Key{phrase: passphrase{text: text, rounds: TestRounds}}
}
