import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Shows the key of one store to a server that it checks by the other, and prints what it is told: keystore truststore passwordFile port. */
public class Pkcs12Client {
  public static void main(String[] args) throws Exception {
    char[] password = Files.readString(Path.of(args[2])).toCharArray();
    var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(load(args[0], password), password);
    var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(load(args[1], password));
    var context = SSLContext.getInstance("TLSv1.3");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    try (var socket = context.getSocketFactory().createSocket("127.0.0.1", Integer.parseInt(args[3]))) {
      System.out.println(new String(socket.getInputStream().readAllBytes()));
    }
  }

  private static KeyStore load(String file, char[] password) throws Exception {
    var store = KeyStore.getInstance("PKCS12");
    try (var in = Files.newInputStream(Path.of(file))) {
      store.load(in, password);
    }
    return store;
  }
}
