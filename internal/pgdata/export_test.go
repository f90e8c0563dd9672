package pgdata

// OffsetBases are those of the checksum's sums.
func OffsetBases() [32]uint32 { return offsetBases() }
