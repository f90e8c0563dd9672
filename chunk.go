package pgmedic

// Chunk is rows that are sealed by themselves, within a pack: of one table or a
// range of its blocks, or of several small tables.
type Chunk struct {
	// Pack is the name of the object, in which the chunk begins at Offset.
	Pack   string `json:"pack"`
	Offset int64  `json:"offset"`
	// StoredBytes and SHA256 are of the chunk's bytes as stored.
	StoredBytes int64  `json:"stored_bytes"`
	SHA256      string `json:"sha256"`
	// PlainBytes is the sum of the parts'.
	PlainBytes int64 `json:"plain_bytes"`
	// Parts are what the chunk holds, one after the other.
	Parts []Part `json:"parts"`
}

// Part is the output of one COPY.
type Part struct {
	// Table is the index of the table in Backup.Tables.
	Table      int   `json:"table"`
	PlainBytes int64 `json:"plain_bytes"`
	Rows       int64 `json:"rows"`
}

// Rows is how many rows all parts hold.
func (c Chunk) Rows() int64 {
	n := int64(0)
	for _, p := range c.Parts {
		n += p.Rows
	}
	return n
}
