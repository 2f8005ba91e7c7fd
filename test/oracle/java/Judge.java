import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.security.cert.CRL;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Date;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Answers each line of file names, separated by tabs (root, issuer, leaf, CRLs…), with one line: "good", "revoked" with
 * reason, date and invalidityDate in seconds ("-" where there is none), or what the checker says. Ends with its input.
 */
public class Judge {
  public static void main(String[] args) throws Exception {
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null; )
      System.out.println(judge(line.split("\t")).replace('\n', ' '));
  }

  private static String judge(String[] names) throws Exception {
    try {
      var checker = (PKIXRevocationChecker) CertPathValidator.getInstance("PKIX").getRevocationChecker();
      checker.setOptions(EnumSet.of(Option.PREFER_CRLS, Option.NO_FALLBACK));
      var parameters = new PKIXParameters(Set.of(new TrustAnchor(certificate(names[0]), null)));
      parameters.addCertPathChecker(checker);
      var crls = new ArrayList<CRL>();
      for (int i = 3; i < names.length; i++) crls.add(crl(names[i]));
      parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(crls)));
      var path = List.of(certificate(names[2]), certificate(names[1]));
      var factory = CertificateFactory.getInstance("X.509");
      CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(path), parameters);
      return "good";
    } catch (CertPathValidatorException refused) {
      if (!(refused.getCause() instanceof CertificateRevokedException revoked)) return refused.toString();
      return String.join(
          " ",
          "revoked",
          revoked.getRevocationReason().toString(),
          seconds(revoked.getRevocationDate()),
          seconds(revoked.getInvalidityDate()));
    }
  }

  private static String seconds(Date date) {
    return date == null ? "-" : String.valueOf(date.getTime() / 1000);
  }

  private static X509Certificate certificate(String name) throws Exception {
    try (var file = new FileInputStream(name)) {
      return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(file);
    }
  }

  private static CRL crl(String name) throws Exception {
    try (var file = new FileInputStream(name)) {
      return CertificateFactory.getInstance("X.509").generateCRL(file);
    }
  }
}
