package seal

// SealWith is Seal with a nonce that is known, for test vectors.
func (k Keys) SealWith(nonce, payload []byte, queue, id string) ([]byte, error) {
	return k.sealWith(nonce, payload, queue, id)
}
