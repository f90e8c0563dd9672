package pgmedic

// Sample says which part of a backup a verification read. The objects are those
// that its checks name.
type Sample struct {
	// Percent is the share of the selected backups' bytes that was asked for.
	Percent float64 `json:"percent"`
	// Objects and Bytes are those of this backup that were read, OfObjects and
	// OfBytes all that it has.
	Objects   int   `json:"objects"`
	OfObjects int   `json:"of_objects"`
	Bytes     int64 `json:"bytes"`
	OfBytes   int64 `json:"of_bytes"`
	// Degree is ProofVerified where the objects were decrypted, decompressed and
	// counted, ProofIntact where only their hashes were compared.
	Degree Proof `json:"degree"`
}
