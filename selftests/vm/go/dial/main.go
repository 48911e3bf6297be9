// SPDX-License-Identifier: Apache-2.0

// Command godial is a Go client of the VM tests: net.Dialer with its timeout and its racing of IPv6
// and IPv4, one dial after the other.
//
//	godial [TIMEOUT NETWORK ADDRESS]...
//
// Prints a line of JSON for each: what failed, how long it took, who is at the other end. The server
// is tools/serve.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const marker = "KMTLS-PLAINTEXT-MARKER"

type outcome struct {
	Address string  `json:"address"`
	Errno   string  `json:"errno"`
	Timeout bool    `json:"timeout"`
	Error   string  `json:"error"`
	Ms      float64 `json:"ms"`
	Local   string  `json:"local"`
	Peer    string  `json:"peer"`
	Saw     string  `json:"saw"`
}

// ask has the server say whom it sees (OP_REPORT of testwire.h).
func ask(connection net.Conn) (string, error) {
	request := make([]byte, 48)
	copy(request, marker)
	request[24] = 'R'
	binary.LittleEndian.PutUint64(request[32:], 0)
	if _, err := connection.Write(request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(answer))
	if len(words) != 4 || words[0] != marker {
		return "", fmt.Errorf("answered %q", answer)
	}
	return words[1], nil
}

func dial(timeout, network, address string) outcome {
	result := outcome{Address: address}
	patience, err := time.ParseDuration(timeout)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	dialer := net.Dialer{Timeout: patience}
	start := time.Now()
	connection, err := dialer.Dial(network, address)
	result.Ms = float64(time.Since(start).Microseconds()) / 1e3
	if err == nil {
		defer connection.Close()
		result.Local = connection.LocalAddr().String()
		result.Peer = connection.RemoteAddr().String()
		result.Saw, err = ask(connection)
	}
	if err != nil {
		var number syscall.Errno
		var timed net.Error
		result.Error = err.Error()
		if errors.As(err, &number) {
			result.Errno = fmt.Sprint(int(number))
		}
		result.Timeout = errors.As(err, &timed) && timed.Timeout()
	}
	return result
}

func main() {
	arguments := os.Args[1:]
	for len(arguments) >= 3 {
		line, _ := json.Marshal(dial(arguments[0], arguments[1], arguments[2]))
		fmt.Println(string(line))
		arguments = arguments[3:]
	}
}
