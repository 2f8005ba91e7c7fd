package main

import (
	"bytes"
	"fmt"
)

// echoes are requests of one size, answered with themselves and padding up to another size.
type echoes struct {
	request       []byte
	responseBytes int
}

func newEchoes(requestBytes, responseBytes int) *echoes {
	return &echoes{request: bytes.Repeat([]byte("echo"), requestBytes/4+1)[:requestBytes], responseBytes: responseBytes}
}

func (e *echoes) path() string {
	return "/"
}

func (e *echoes) body(int, []byte) ([]byte, error) {
	return e.request, nil
}

func (e *echoes) check(answers []answer, _ int, _ *report) error {
	for _, one := range answers {
		if len(one.body) != e.responseBytes || !bytes.HasPrefix(one.body, e.request) {
			return fmt.Errorf("an echo of %d bytes is not the one expected (%d bytes)", len(one.body), e.responseBytes)
		}
	}
	return nil
}
